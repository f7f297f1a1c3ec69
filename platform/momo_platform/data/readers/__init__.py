"""What reads a corpus, by the kind of place or file that it comes in."""
