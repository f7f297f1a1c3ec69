"""The icons' corpora: pictures with names in some two hundred drawing styles, and dictionaries.

The packages are downloaded, unpacked and read as files; none is run, none is committed.
"""
