//! Home of the world, conformance and tidy tests; the tests themselves live in `tests/`.
