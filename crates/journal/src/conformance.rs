//! The checks that every journal backend passes.
