"""Everything both processes know: vocabulary, sources, mapping, encoding, index, store."""

__version__ = "0.1.0"
