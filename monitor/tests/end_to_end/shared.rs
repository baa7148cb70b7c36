//! What the other test targets take of this one.

/// Modules of files that were written for another target, which uses all of them.
macro_rules! shared {
    ($($path:literal $module:ident)*) => {
        $(
            #[path = $path]
            #[allow(dead_code, reason = "other tests use the rest")]
            mod $module;
        )*
    };
}
