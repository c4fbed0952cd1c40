"""Results to read: the report's tables, figures, words and page, and what a terminal shows of them."""
