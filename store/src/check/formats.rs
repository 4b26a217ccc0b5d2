//! Checks of strings with a grammar of their own: hosts, addresses, paths, names, tags.
