//! The command `tollgate moesif ping`: whether Moesif can be reached, and in words what is wrong.

use std::path::PathBuf;

use exporter::ping::{Application, applications, ping};
use runtime::clock;
use store::conf::Settings;

/// The plugin's default endpoint.
const ENDPOINT: &str = "https://api.moesif.net";

/// Tries the named application, or all that the running gateway has; gives what was found, and
/// whether all of it is good.
///
/// # Errors
/// There is nothing to try, in one sentence.
pub fn run(
    settings: &Settings,
    id: Option<&str>,
    endpoint: Option<&str>,
) -> Result<(String, bool), String> {
    let found = match id {
        Some(id) => {
            let endpoint = endpoint.unwrap_or(ENDPOINT).to_owned();
            vec![Application { id: id.to_owned(), endpoint, state: None }]
        }
        None => configured(settings)?,
    };
    if found.is_empty() {
        return Err("no moesif plugin is configured: name an application with --application-id \
                    and, where it is not Moesif itself, --endpoint"
            .to_owned());
    }
    let (mut words, mut good) = (String::new(), true);
    let files = certificates(settings);
    for application in &found {
        let tail = application.id.char_indices().nth_back(9).map_or(0, |(at, _)| at);
        let tail = application.id.get(tail..).unwrap_or_default();
        words.push_str(&format!("application …{tail} at {}\n", application.endpoint));
        for finding in ping(application, &files, clock::wall_us()) {
            good &= finding.good;
            let mark = if finding.good { "ok  " } else { "FAIL" };
            words.push_str(&format!("  {mark} {}\n", finding.words));
        }
    }
    Ok((words, good))
}

/// The applications of the gateway that runs with these settings.
fn configured(settings: &Settings) -> Result<Vec<Application>, String> {
    let listen = settings.listen("admin_listen").into_iter().find(|listen| !listen.tls);
    let listen = listen.ok_or(
        "admin_listen has no address in the clear to ask: name an application with \
         --application-id",
    )?;
    let address = match listen.host.as_str() {
        "0.0.0.0" => format!("127.0.0.1:{}", listen.port),
        "::" => format!("[::1]:{}", listen.port),
        _ => listen.address(),
    };
    applications(&format!("http://{address}"))
        .map_err(|fault| format!("{fault} (is it running? else use --application-id)"))
}

/// Files of certificates that destinations may be signed by, besides the system's.
pub fn certificates(settings: &Settings) -> Vec<PathBuf> {
    let files = settings.list("lua_ssl_trusted_certificate").iter();
    let files = files.map(|file| file.trim()).filter(|file| !matches!(*file, "" | "system"));
    files.map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let env = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::of(None, env).unwrap().0
    }

    #[test]
    fn a_named_application_is_tried() {
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let endpoint = format!("http://{closed}");
        let (words, good) = run(&settings(&[]), Some("0123456789abc"), Some(&endpoint)).unwrap();
        assert!(!good && words.starts_with("application …3456789abc at http://"), "{words}");
        assert!(words.contains("\n  FAIL nobody listens at "), "{words}");
    }

    #[test]
    fn without_a_gateway_nothing_is_known() {
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
        let settings = settings(&[("KONG_ADMIN_LISTEN", &closed.to_string())]);
        let fault = run(&settings, None, None).unwrap_err();
        assert!(fault.contains("--application-id"), "{fault}");
    }

    #[test]
    fn certificates_are_files() {
        let settings = settings(&[("KONG_LUA_SSL_TRUSTED_CERTIFICATE", "system,/a/b.pem")]);
        assert_eq!(certificates(&settings), [PathBuf::from("/a/b.pem")]);
    }
}
