"""Images on disk and in pieces: files, planes, blocks, and how bright they are."""
