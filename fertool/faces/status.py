"""What became of an image: the `status` column of a faces file."""

PENDING, OK, SEVERAL, KEPT, NO_FACE, UNREADABLE = range(6)

#: code -> how it is called in tables and messages
NAMES = {
    PENDING: "pending",
    OK: "ok",
    SEVERAL: "several faces, largest taken",
    KEPT: "no face, whole image kept",
    NO_FACE: "no face",
    UNREADABLE: "unreadable",
}

#: rows with pixels in `images`
HAS_IMAGE = (OK, SEVERAL, KEPT)
