"""Where artifacts lie: one logic of artifacts over small files, in a folder or an object store.

`open.open_storage` gives the `artifacts.Storage` of a place. Below it: `files` with `local` and
`objects` (bytes), `attempts` with `in_place` and `copies` (where a stage writes and reads), and
`leases` (who makes what).
"""
