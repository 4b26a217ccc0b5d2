//! References to secrets: `{vault://env/name}` and `{vault://env/name/key}`.
//!
//! Only the `env` vault is built. Its name is put in capitals, `-` becomes `_`, and the prefix
//! (`vault_env_prefix`) comes before it; a key takes one member of a JSON object.
//!
//! Source: Kong `kong/vaults/env/init.lua` and `kong/pdk/vault.lua`.

/// Whether a value is a reference.
#[must_use]
pub(super) fn is(value: &str) -> bool {
    value.starts_with("{vault://") && value.ends_with('}')
}

/// The secret that a reference names.
///
/// `prefix` is the text of `vault_env_prefix`; `variable` looks up the environment.
///
/// # Errors
/// Kong's words for why it cannot be had.
pub(super) fn resolve(
    reference: &str,
    prefix: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let inner = reference
        .strip_prefix("{vault://")
        .and_then(|rest| rest.strip_suffix('}'))
        .ok_or_else(|| format!("not a reference [{reference}]"))?;
    let (path, query) = inner.split_once('?').unwrap_or((inner, ""));
    let (vault, path) = path.split_once('/').unwrap_or((path, ""));
    let (name, key) = path.split_once('/').unwrap_or((path, ""));
    if vault != "env" {
        return Err(format!("vault not found ({vault}) [{reference}]"));
    }
    let own = query.split('&').find_map(|pair| pair.strip_prefix("prefix="));
    let name = format!("{}{name}", own.unwrap_or(prefix)).replace('-', "_").to_uppercase();
    let missing =
        |why: &str| format!("unable to load value ({path}) from vault (env): {why} [{reference}]");
    let value = variable(&name).ok_or_else(|| missing("not found"))?;
    if key.is_empty() {
        return Ok(value);
    }
    let object: serde_json::Value =
        serde_json::from_str(&value).map_err(|_| missing("not a JSON object"))?;
    match object.get(key) {
        Some(serde_json::Value::String(text)) => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
        Some(serde_json::Value::Bool(flag)) => Ok(flag.to_string()),
        _ => Err(missing("subfield not found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a reference in a small environment.
    #[track_caller]
    fn check(reference: &str, expected: Result<&str, &str>) {
        let found = resolve(reference, "", |name| match name {
            "MY_SECRET" => Some("s3cret".to_owned()),
            "PG_LOGIN" => Some(r#"{"user":"u","port":5432,"deep":{}}"#.to_owned()),
            _ => None,
        });
        assert_eq!(found.as_deref().map_err(String::as_str), expected, "{reference}");
    }

    #[test]
    fn the_environment_is_a_vault() {
        check("{vault://env/my-secret}", Ok("s3cret"));
        check("{vault://env/secret?prefix=my_}", Ok("s3cret"));
        check("{vault://env/pg-login/user}", Ok("u"));
        check("{vault://env/pg-login/port}", Ok("5432"));
    }

    #[test]
    fn failures_are_in_kongs_words() {
        check(
            "{vault://env/other}",
            Err("unable to load value (other) from vault (env): not found [{vault://env/other}]"),
        );
        check(
            "{vault://env/pg-login/deep}",
            Err("unable to load value (pg-login/deep) from vault (env): subfield not found \
                 [{vault://env/pg-login/deep}]"),
        );
        check("{vault://hcv/secret/x}", Err("vault not found (hcv) [{vault://hcv/secret/x}]"));
    }
}
