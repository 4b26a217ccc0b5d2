//! Which driver a core shall run, and which it runs.

use std::fmt;

/// Which driver a core shall run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoChoice {
    /// io_uring where the kernel allows it, else epoll.
    #[default]
    Auto,
    /// io_uring or no start.
    IoUring,
    /// epoll.
    Epoll,
    /// glommio, where it was built in, or no start.
    Glommio,
}

impl IoChoice {
    /// Every choice that this build can run on a kernel that allows it. For tests.
    pub const EACH: &[Self] = if super::glommio::BUILT_IN {
        &[Self::Epoll, Self::Auto, Self::Glommio]
    } else {
        &[Self::Epoll, Self::Auto]
    };

    /// Reads `TOLLGATE_IO`: `auto` (also when unset or empty), `io_uring`, `epoll` or `glommio`.
    ///
    /// # Errors
    /// One sentence that names the variable and its values.
    pub fn from_env() -> Result<Self, String> {
        Self::named(&std::env::var("TOLLGATE_IO").unwrap_or_default())
    }

    fn named(name: &str) -> Result<Self, String> {
        match name {
            "" | "auto" => Ok(Self::Auto),
            "io_uring" => Ok(Self::IoUring),
            "epoll" => Ok(Self::Epoll),
            "glommio" if super::glommio::BUILT_IN => Ok(Self::Glommio),
            "glommio" => Err(format!("TOLLGATE_IO is glommio: {}", super::glommio::ABSENT)),
            _ => Err(format!("TOLLGATE_IO must be auto, io_uring, epoll or glommio, not {name:?}")),
        }
    }
}

/// Which driver a core runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoKind {
    /// Completions: `SINGLE_ISSUER|DEFER_TASKRUN`.
    IoUring,
    /// Readiness.
    Epoll,
    /// Readiness told by three rings of io_uring, tasks with shares.
    Glommio,
    /// No kernel at all.
    Script,
}

impl fmt::Display for IoKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
            Self::Glommio => "glommio",
            Self::Script => "script",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_others_refused() {
        let check = |name, choice| assert_eq!(IoChoice::named(name), Ok(choice));
        check("", IoChoice::Auto);
        check("auto", IoChoice::Auto);
        check("io_uring", IoChoice::IoUring);
        check("epoll", IoChoice::Epoll);
        let refused = |name| IoChoice::named(name).unwrap_err();
        assert!(refused("Epoll").contains("must be auto, io_uring, epoll or glommio"));
        if IoChoice::EACH.contains(&IoChoice::Glommio) {
            check("glommio", IoChoice::Glommio);
        } else {
            assert!(refused("glommio").contains("was built without"));
        }
    }
}
