//! Views of record batches.
