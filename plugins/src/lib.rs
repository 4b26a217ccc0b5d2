//! What may happen to an exchange: plugins, and all that a plugin may see.
