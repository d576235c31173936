"""The files that an evaluation reads.

- ``crops``: aligned crops and folders of identities.
- ``bin_files``: verification sets such as ``lfw.bin``; ``pickles`` parses them without running them.
- ``lists``: label files and pair lists; ``template_lists``: CSV files of templates.
- ``stored_embeddings``: ``.npy`` files with their labels.
"""
