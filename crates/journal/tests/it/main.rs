//! The journal's tests on real files; the simulated disk's are in `kafscale-sim`.

mod file;
