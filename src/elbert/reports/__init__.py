"""The self-contained pages and the pictures: of one text, of a run, of a sweep."""
