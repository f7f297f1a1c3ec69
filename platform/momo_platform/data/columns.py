"""Names that people's tables have their columns by; of several that are there the first counts."""

IMAGE_NAMES = ("image", "path", "file", "file_name", "filename", "image_path", "img", "jpg", "png")
TEXT_NAMES = ("text", "content", "document", "sentence")
CAPTION_NAMES = ("caption", "captions", "text", "sentence", "sentences", "title", "alt")
