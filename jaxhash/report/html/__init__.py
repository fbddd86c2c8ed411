"""Pages: HTML files that hold all they show, and open from disk with the network off.

`page` writes a file and has the parts that pages are made of, `thumbnails` makes small images, and
``style.css`` is what all pages look like, the one of ``jaxhash serve`` included.

Read first: `page`.
"""
