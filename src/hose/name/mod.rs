//! Prefixes with expressions in them, and the names of objects.
