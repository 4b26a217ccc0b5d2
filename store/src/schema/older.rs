//! Fields that plugins still take under an older name. Their words name the plugin, so they are
//! written by macros.
//!
//! Source: Kong `kong/tools/redis/schema.lua`, `kong/tools/queue_schema.lua` and the schemas of the
//! plugins.

/// The shorthands that have moved into the record `redis` of a plugin's configuration.
#[macro_export]
macro_rules! older_redis {
    ($plugin:literal) => {{
        use $crate::schema::{Shorthand, boolean, integer, text};
        const ALL: &[Shorthand] = &[
            $crate::older_redis!($plugin, text("redis_host", ""), "redis_host", "host"),
            $crate::older_redis!($plugin, integer("redis_port", ""), "redis_port", "port"),
            $crate::older_redis!(
                $plugin,
                text("redis_password", "").len_min(0),
                "redis_password",
                "password"
            ),
            $crate::older_redis!($plugin, text("redis_username", ""), "redis_username", "username"),
            $crate::older_redis!($plugin, boolean("redis_ssl", ""), "redis_ssl", "ssl"),
            $crate::older_redis!(
                $plugin,
                boolean("redis_ssl_verify", ""),
                "redis_ssl_verify",
                "ssl_verify"
            ),
            $crate::older_redis!(
                $plugin,
                text("redis_server_name", ""),
                "redis_server_name",
                "server_name"
            ),
            $crate::older_redis!($plugin, integer("redis_timeout", ""), "redis_timeout", "timeout"),
            $crate::older_redis!(
                $plugin,
                integer("redis_database", ""),
                "redis_database",
                "database"
            ),
        ];
        ALL
    }};
    ($plugin:literal, $field:expr, $old:literal, $new:literal) => {
        Shorthand {
            field: $field.deprecated(&$crate::schema::Deprecation {
                message: concat!(
                    $plugin,
                    ": config.",
                    $old,
                    " is deprecated, please use config.redis.",
                    $new,
                    " instead"
                ),
                removal_in_version: "4.0",
                old_default: None,
                replaced_with: &[&["redis", $new]],
            }),
            expand: $crate::schema::Expand::Into(&["redis", $new]),
        }
    };
}

/// A field that the record `queue` has taken the place of: the plugin, the field, what became of it
/// ("is deprecated", "no longer works"), its name in `queue`, and its value when it was not given.
#[macro_export]
macro_rules! older_queue {
    ($plugin:literal, $field:expr, $old:literal, $is:literal, $new:literal, $usual:literal) => {
        $field.deprecated(&$crate::schema::Deprecation {
            message: concat!(
                $plugin,
                ": config.",
                $old,
                " ",
                $is,
                ", please use config.queue.",
                $new,
                " instead"
            ),
            removal_in_version: "4.0",
            old_default: Some($crate::schema::Preset::Integer($usual)),
            replaced_with: &[],
        })
    };
    ($plugin:literal, retry_count, $about:expr) => {
        $crate::older_queue!(
            $plugin,
            $crate::schema::integer("retry_count", $about),
            "retry_count",
            "no longer works",
            "max_retry_time",
            10
        )
    };
    ($plugin:literal, queue_size, $about:expr) => {
        $crate::older_queue!(
            $plugin,
            $crate::schema::integer("queue_size", $about),
            "queue_size",
            "is deprecated",
            "max_batch_size",
            1
        )
    };
    ($plugin:literal, flush_timeout, $about:expr) => {
        $crate::older_queue!(
            $plugin,
            $crate::schema::number("flush_timeout", $about),
            "flush_timeout",
            "is deprecated",
            "max_coalescing_delay",
            2
        )
    };
    ($plugin:literal, batch_span_count, $about:expr) => {
        $crate::older_queue!(
            $plugin,
            $crate::schema::integer("batch_span_count", $about),
            "batch_span_count",
            "is deprecated",
            "max_batch_size",
            200
        )
    };
    ($plugin:literal, batch_flush_delay, $about:expr) => {
        $crate::older_queue!(
            $plugin,
            $crate::schema::integer("batch_flush_delay", $about),
            "batch_flush_delay",
            "is deprecated",
            "max_coalescing_delay",
            3
        )
    };
}

/// What `retry_count` was for.
pub const RETRY_COUNT: &str = "Number of times to retry when sending data to the upstream server.";
/// What `queue_size` was for.
pub const QUEUE_SIZE: &str =
    "Maximum number of log entries to be sent on each message to the upstream server.";
/// What `flush_timeout` was for.
pub const FLUSH_TIMEOUT: &str = "Optional time in seconds. If `queue_size` > 1, this is the max \
    idle time before sending a log with less than `queue_size` records.";
