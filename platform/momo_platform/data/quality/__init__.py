"""Which of a corpus's prepared training rows are kept, by languages, repeats, tests and scores."""
