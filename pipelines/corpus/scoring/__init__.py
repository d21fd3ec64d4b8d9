"""What a document's text is scored by: words, the rules of Gopher, C4 and FineWeb, language."""
