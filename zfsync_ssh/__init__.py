"""zfsync keeps a tree of ZFS datasets on another host up to date over SSH."""

__version__ = "0.1.0"
