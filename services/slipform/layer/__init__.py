"""The layer engine: tar writer and reader, diff, apply, hashing, compression; knows no service.

============== ======================================================================
``diff``       what changed between trees (``directory_changes``, ``overlay_changes``)
``tar_writer`` changes to a canonical layer tar and its diff_id (``write_layer``)
``apply``      a layer tar into a root directory (``apply_layer``, ``unpack_archive``)
``decompress`` any compressed stream to bytes, digested on the way (``open_compressed``)
``compress``   the same bytes with any number of workers (``compress``)
``copying``    files and trees, cloned where the file system can (``copy_tree``)
``removal``    trees of any depth, removed without following links (``remove_tree``)
============== ======================================================================
"""
