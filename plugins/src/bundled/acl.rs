//! acl: lets in, or keeps out, the consumers of some groups.
//!
//! Source: Kong `kong/plugins/acl/{schema,daos,handler,groups,api}.lua`; recorded in
//! `recorded/plugins/acl.jsonl` and the suite `plugins-auth`. One thing is not as in Kong: with
//! `hide_groups_header`, groups that the client itself claims do not reach the upstream.

use smallvec::SmallVec;
use store::schema::typical;
use store::schema::{Entity, Field, PluginSchema, Preset, Rule, array, boolean, foreign, text};

use crate::pdk::{Answer, Config, Exchange, Fault, Phase, Plugin, Prepared, Spec, Step};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "acl",
        priority: 950,
        no_consumer: true,
        config: CONFIG,
        rules: RULES,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[&GROUPS],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    array(
        "allow",
        "Arbitrary group names that are allowed to consume the service or route. One of \
         `config.allow` or `config.deny` must be specified.",
        &typical::TEXT_ELEMENT,
    ),
    array(
        "deny",
        "Arbitrary group names that are not allowed to consume the service or route. One of \
         `config.allow` or `config.deny` must be specified.",
        &typical::TEXT_ELEMENT,
    ),
    boolean(
        "hide_groups_header",
        "If enabled (`true`), prevents the `X-Consumer-Groups` header from being sent in the \
         request to the upstream service.",
    )
    .required()
    .or(Preset::Flag(false)),
    boolean(
        "always_use_authenticated_groups",
        "If enabled (`true`), the authenticated groups will always be used even when an \
         authenticated consumer already exists. If the authenticated groups don't exist, it will \
         fallback to use the groups associated with the consumer. By default the authenticated \
         groups will only be used when there is no consumer or the consumer is anonymous.",
    )
    .required()
    .or(Preset::Flag(false)),
];

const RULES: &[Rule] = &[
    Rule::OnlyOneOf(&["config.allow", "config.deny"]),
    Rule::AtLeastOneOf(&["config.allow", "config.deny"]),
];

/// The groups of consumers.
pub static GROUPS: Entity = Entity {
    name: "acls",
    nested_key: Some("group"),
    cache_key: &["consumer", "group"],
    fields: &[
        typical::ID,
        typical::CREATED_AT,
        foreign("consumer", "consumers", "").required().cascade(),
        text("group", "").required(),
        typical::TAGS,
    ],
    ..Entity::EMPTY
};

const CONSUMER_GROUPS: &str = "X-Consumer-Groups";
const AUTHENTICATED_GROUPS: &str = "X-Authenticated-Groups";

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let deny = config.texts("deny");
    let denies = !deny.is_empty();
    let prepared = Acl {
        groups: if denies { deny } else { config.texts("allow") },
        denies,
        hide_groups_header: config.flag("hide_groups_header"),
        always_use_authenticated_groups: config.flag("always_use_authenticated_groups"),
    };
    Ok(Prepared::new(move || Box::new(prepared.clone())))
}

#[derive(Clone)]
struct Acl {
    groups: Vec<String>,
    /// The groups are kept out; else they alone are let in.
    denies: bool,
    hide_groups_header: bool,
    always_use_authenticated_groups: bool,
}

/// Names of groups, nearly always few.
type Groups = SmallVec<[String; 4]>;

impl Plugin for Acl {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let is_known = exchange.credential.is_some();
        let (groups, header) = match self.groups_of(exchange) {
            Some(found) => found,
            None if is_known => return Step::answer(Answer::error(403, REFUSAL)),
            None => return Step::answer(Answer::error(401, "Unauthorized")),
        };
        let among = groups.iter().any(|group| self.groups.contains(group));
        if among == self.denies {
            return Step::answer(Answer::error(403, REFUSAL));
        }
        let fields = &mut exchange.request.fields;
        if self.hide_groups_header {
            fields.remove(header);
        } else {
            fields.set(header, groups.join(", "));
        }
        Step::NEXT
    }
}

const REFUSAL: &str = "You cannot consume this service";

impl Acl {
    /// The groups that count, and the header that tells the upstream of them. `None` where nobody
    /// can be let in: without a consumer and groups, or without groups where some are asked for.
    fn groups_of(&self, exchange: &Exchange) -> Option<(Groups, &'static str)> {
        let authenticated = || {
            let groups = exchange.authenticated_groups.as_ref()?;
            Some((groups.iter().cloned().collect(), AUTHENTICATED_GROUPS))
        };
        let Some(consumer) = &exchange.consumer else { return authenticated() };
        // Groups of a session or a directory go before those of an anonymous consumer.
        if (exchange.credential.is_none() || self.always_use_authenticated_groups)
            && let Some(found) = authenticated()
        {
            return Some(found);
        }
        let rows = exchange.tables().children(GROUPS.name, "consumer", consumer.id(), None);
        let groups: Groups = rows.filter_map(|row| row.text("group")).map(Into::into).collect();
        (self.denies || !groups.is_empty()).then_some((groups, CONSUMER_GROUPS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{self, Script, answered};
    use crate::pdk::{Credential, identity};
    use serde_json::json;

    const BOB: &str = "00000000-0000-4000-8000-000000000001";
    const AL: &str = "00000000-0000-4000-8000-000000000002";

    /// Who asks.
    #[derive(Clone, Copy)]
    enum Who {
        Nobody,
        Known(&'static str),
        Anonymous(&'static str),
    }

    fn asked(
        config: serde_json::Value,
        who: Who,
        authenticated: Option<&[&str]>,
    ) -> Result<Vec<(String, String)>, (u16, String)> {
        let script = Script::new(&PLUGIN, config)
            .row("consumers", json!({"id": BOB, "username": "bob"}))
            .row("consumers", json!({"id": AL, "username": "al"}))
            .row("acls", json!({"id": ANY, "consumer": {"id": BOB}, "group": "gold"}))
            .row("acls", json!({"consumer": {"id": BOB}, "group": "silver"}));
        let spoofed = [("X-Consumer-Groups", "root")];
        let mut exchange = script.get("/", &spoofed);
        exchange.authenticated_groups =
            authenticated.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect());
        let consumer = |exchange: &Exchange, id: &str| {
            exchange.tables().get("consumers", id.parse().unwrap()).cloned()
        };
        match who {
            Who::Nobody => {}
            Who::Known(id) => {
                let consumer = consumer(&exchange, id);
                let credential = Credential { id: "c".into(), key: None };
                identity::identify(&mut exchange, consumer, Some(credential));
            }
            Who::Anonymous(id) => {
                let consumer = consumer(&exchange, id);
                identity::identify(&mut exchange, consumer, None);
            }
        }
        if let Some(refused) = answered(script.plugin().access(&mut exchange)) {
            return Err(refused);
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let groups = exchange.request.fields.iter().filter(|(name, _)| name.ends_with(b"Groups"));
        Ok(groups.map(|(name, value)| (text(name), text(value))).collect())
    }

    const ANY: &str = "00000000-0000-4000-8000-0000000000aa";

    #[track_caller]
    fn check(config: serde_json::Value, who: Who, expected: Result<&[(&str, &str)], u16>) {
        let found = asked(config.clone(), who, None);
        let found = found.map_err(|(status, _)| status);
        let expected = expected.map(|lines| {
            lines.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        });
        assert_eq!(found.map(sorted), expected, "{config}");
    }

    /// Which of two groups comes first depends on random ids.
    fn sorted(mut lines: Vec<(String, String)>) -> Vec<(String, String)> {
        for (_, value) in &mut lines {
            let mut groups: Vec<_> = value.split(", ").collect();
            groups.sort_unstable();
            *value = groups.join(", ");
        }
        lines
    }

    #[test]
    fn a_group_opens_or_closes() {
        let told = Ok(&[("X-Consumer-Groups", "gold, silver")][..]);
        check(json!({"allow": ["gold"]}), Who::Known(BOB), told);
        check(json!({"allow": ["gold"]}), Who::Anonymous(BOB), told);
        check(json!({"allow": ["bronze"]}), Who::Known(BOB), Err(403));
        check(json!({"allow": ["gold"]}), Who::Known(AL), Err(403));
        check(json!({"allow": ["gold"]}), Who::Anonymous(AL), Err(401));
        check(json!({"allow": ["gold"]}), Who::Nobody, Err(401));
        check(json!({"deny": ["gold"]}), Who::Known(BOB), Err(403));
        check(json!({"deny": ["bronze"]}), Who::Known(BOB), told);
        check(json!({"deny": ["gold"]}), Who::Known(AL), Ok(&[("X-Consumer-Groups", "")]));
        check(json!({"deny": ["gold"]}), Who::Nobody, Err(401));
    }

    #[test]
    fn a_hidden_header_cannot_be_spoofed() {
        let hide = json!({"allow": ["gold"], "hide_groups_header": true});
        check(hide, Who::Known(BOB), Ok(&[]));
    }

    #[test]
    fn authenticated_groups_count_without_a_consumer_or_where_they_always_do() {
        let groups = |config, who| {
            asked(config, who, Some(&["admins", "b"])).map(|lines| {
                lines.into_iter().find(|(name, _)| name == AUTHENTICATED_GROUPS).map(|(_, v)| v)
            })
        };
        let admins = json!({"allow": ["admins"]});
        assert_eq!(groups(admins.clone(), Who::Nobody), Ok(Some("admins, b".to_owned())));
        assert_eq!(groups(admins.clone(), Who::Anonymous(AL)), Ok(Some("admins, b".to_owned())));
        let refused = Err((403, REFUSAL.to_owned()));
        assert_eq!(groups(admins, Who::Known(AL)), refused);
        let always = json!({"allow": ["admins"], "always_use_authenticated_groups": true});
        assert_eq!(groups(always, Who::Known(AL)), Ok(Some("admins, b".to_owned())));
        assert_eq!(groups(json!({"deny": ["b"]}), Who::Nobody), refused);
    }

    #[test]
    fn either_list_is_asked_for() {
        for (config, is_right) in [
            (json!({}), false),
            (json!({"allow": ["a"], "deny": ["b"]}), false),
            (json!({"allow": []}), false),
            (json!({"deny": ["b"]}), true),
        ] {
            assert_eq!(script::fault(&PLUGIN, config.clone()).is_none(), is_right, "{config}");
        }
    }
}
