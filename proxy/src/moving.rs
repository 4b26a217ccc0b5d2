//! `migrate-from-kong --check`: what would be the same, what would differ, and what is not there,
//! in plain words. Changes nothing.

use std::process::ExitCode;

use plugins::pdk::Spec;
use store::backend::postgres::PostgresPlan;
use store::backend::postgres::survey::{Survey, survey};
use store::conf::{Database, Settings};
use uuid::Uuid;

use crate::cli::{self, Command};
use crate::{engine, keeper};

/// Kinds of vaults that are built.
const VAULTS: &[&str] = &["env"];

/// What was found out, one sentence each.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    same: Vec<String>,
    differs: Vec<String>,
    missing: Vec<String>,
}

/// Looks and says what it found; fails if anything in use is not supported.
pub fn answer(command: &Command) -> ExitCode {
    if !command.check {
        return cli::fail("migrate-from-kong needs --check: it looks, and changes nothing");
    }
    match findings(command) {
        Ok(findings) => {
            cli::say(&findings.words());
            if findings.missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(fault) => cli::fail(&fault),
    }
}

fn findings(command: &Command) -> Result<Findings, String> {
    let (settings, notices) = cli::settings(command)?;
    let mut findings = Findings::default();
    let specs = engine::specs();
    of_settings(&settings, notices, specs, &mut findings);
    match settings.database() {
        Database::Postgres => {
            let server = PostgresPlan::of(&settings, Uuid::nil(), None).server;
            let schemas: Vec<_> = specs.iter().map(|spec| &spec.schema).collect();
            let owned: Vec<_> =
                specs.iter().flat_map(|spec| spec.entities.iter().copied()).collect();
            let names = schemas.iter().map(|schema| schema.name.to_owned()).collect();
            let catalogue = keeper::catalogue(schemas, &owned, names, true);
            let found = survey(&server, &catalogue)?;
            of_database(&found, &server.place(), specs, &mut findings);
        }
        Database::Sqlite => findings.differs.push(
            "no database is named (pg_host and others): Kong would look for Postgres on 127.0.0.1, \
             Tollgate keeps an embedded file"
                .to_owned(),
        ),
        Database::Off => findings.same.push("the declarative configuration".to_owned()),
    }
    Ok(findings)
}

fn of_settings(
    settings: &Settings,
    notices: Vec<String>,
    specs: &[&'static Spec],
    findings: &mut Findings,
) {
    findings.missing.extend(settings.refusal());
    findings.differs.extend(notices);
    let installed: Vec<&str> = specs.iter().map(|spec| spec.schema.name).collect();
    if let Err(why) = settings.plugins(&installed) {
        findings.missing.push(format!("plugins: {why} (a plugin of your own in Lua?)"));
    }
    if settings.list("stream_listen").iter().any(|item| item != "off") {
        findings.missing.push("stream_listen: TCP, TLS and UDP proxying is not built".to_owned());
    }
    if settings.flag("wasm") {
        findings.missing.push("wasm: WebAssembly filters are not built".to_owned());
    }
    findings.same.push("kong.conf, KONG_* variables, listeners, the Admin API".to_owned());
    findings.differs.push(
        "answers say tollgate in Server and Via; GET / says 3.9.1 and names Tollgate beside it"
            .to_owned(),
    );
}

fn of_database(survey: &Survey, place: &str, specs: &[&'static Spec], findings: &mut Findings) {
    match &survey.refusal {
        None => findings.same.push(format!("the database {place} is served as it is")),
        Some(why) => findings.missing.push(format!("the database {place}: {why}")),
    }
    for (entity, count) in &survey.rows {
        findings.same.push(format!("{entity}: {count}"));
    }
    for (name, enabled, disabled) in &survey.plugins {
        let spec = specs.iter().find(|spec| spec.schema.name == name);
        let rows = format!("plugin {name}: {enabled} enabled, {disabled} not");
        match spec {
            Some(spec) if spec.is_built() => findings.same.push(rows),
            Some(_) if *enabled == 0 => {
                findings
                    .differs
                    .push(format!("{rows}; it is stored, and what it does is not built"));
            }
            Some(_) => findings.missing.push(format!(
                "{rows}; what it does is not built: requests in its scope are answered 503"
            )),
            None => findings.missing.push(format!("{rows}; nobody here knows it")),
        }
    }
    if !survey.workspaces.is_empty() {
        let names = survey.workspaces.join(", ");
        findings.missing.push(format!("workspaces other than default: {names}"));
    }
    let vaults = survey.vaults.iter().filter(|name| !VAULTS.contains(&name.as_str()));
    findings.missing.extend(vaults.map(|name| format!("vaults of the kind {name}")));
    for (count, what) in [
        (survey.stream_routes, "routes for TCP, TLS or UDP"),
        (survey.filter_chains, "chains of WebAssembly filters"),
        (survey.data_planes, "data planes that follow this control plane"),
    ] {
        if count > 0 {
            findings.missing.push(format!("{what}: {count}"));
        }
    }
    if survey.expressions > 0 {
        let words = "routes with an expression match with router_flavor = expressions";
        findings.differs.push(format!("{words}: {}", survey.expressions));
    }
    findings.missing.extend(survey.faults.iter().cloned());
}

impl Findings {
    fn words(&self) -> String {
        let mut words = String::new();
        for (title, lines) in [
            ("The same", &self.same),
            ("Different", &self.differs),
            ("Not supported", &self.missing),
        ] {
            words += &format!("{title}:\n");
            if lines.is_empty() {
                words += "  nothing\n";
            }
            lines.iter().for_each(|line| words += &format!("  {line}\n"));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(survey: &Survey) -> Findings {
        let mut findings = Findings::default();
        of_database(survey, "db:5432/kong", engine::specs(), &mut findings);
        findings
    }

    #[test]
    fn what_is_in_use_and_not_there_is_told() {
        let fine = Survey {
            rows: vec![("services", 3)],
            plugins: vec![("key-auth".to_owned(), 2, 1), ("ldap-auth".to_owned(), 0, 1)],
            vaults: vec!["env".to_owned()],
            ..Survey::default()
        };
        let found = of(&fine);
        assert!(found.missing.is_empty(), "{found:?}");
        assert!(found.same.contains(&"services: 3".to_owned()), "{found:?}");
        assert_eq!(found.differs.len(), 1, "{found:?}");
        let rest = Survey {
            plugins: vec![("my-own".to_owned(), 1, 0), ("ldap-auth".to_owned(), 1, 0)],
            workspaces: vec!["second".to_owned()],
            vaults: vec!["hcv".to_owned()],
            stream_routes: 2,
            refusal: Some("too old".to_owned()),
            ..Survey::default()
        };
        let found = of(&rest);
        assert_eq!(found.missing.len(), 6, "{found:?}");
        let words = found.words();
        assert!(words.contains("  plugin my-own: 1 enabled, 0 not; nobody here knows it\n"));
        assert!(
            words.contains("Not supported:\n  the database db:5432/kong: too old\n"),
            "{words}"
        );
    }
}
