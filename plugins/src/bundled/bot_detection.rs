//! bot-detection: refuses programs that tell in their User-Agent that they are one.
//!
//! Source: Kong `kong/plugins/bot-detection/{schema,handler,rules}.lua`; the list of bots is that
//! of github.com/ua-parser/uap-core (`regexes.yaml`, Apache-2.0) in Kong's version; recorded cases.

use std::sync::OnceLock;

use store::schema::{Field, PluginSchema, Preset, array, text};

use crate::pdk::{
    Answer, Config, Exchange, Fault, Pattern, Phase, Plugin, Prepared, Remembered, Search, Spec,
    Step,
};

/// The plugin.
pub static PLUGIN: Spec = Spec {
    schema: PluginSchema {
        name: "bot-detection",
        priority: 2500,
        no_consumer: true,
        config: CONFIG,
        ..PluginSchema::EMPTY
    },
    phases: &[Phase::Access],
    entities: &[],
    endpoints: &[],
    prepare,
};

const CONFIG: &[Field] = &[
    array(
        "allow",
        "An array of regular expressions that should be allowed. The regular expressions will be \
         checked against the `User-Agent` header.",
        &text("", "").is_regex(),
    )
    .or(Preset::List(&[])),
    array(
        "deny",
        "An array of regular expressions that should be denied. The regular expressions will be \
         checked against the `User-Agent` header.",
        &text("", "").is_regex(),
    )
    .or(Preset::List(&[])),
];

/// Verdicts that an instance remembers; when there are more it forgets them all.
const VERDICTS_MAX: usize = 1_024;
/// A longer User-Agent is looked at each time.
const REMEMBERED_BYTES_MAX: usize = 512;

fn prepare(config: &Config<'_>) -> Result<Prepared, Fault> {
    let patterns = |field: &'static str| {
        let texts = config.texts(field);
        Pattern::any_of(&texts).map_err(|message| Fault { field, message })
    };
    let (allow, deny, bots) = (patterns("allow")?, patterns("deny")?, bots()?);
    Ok(Prepared::new(move || {
        Box::new(BotDetection {
            allow: allow.search(),
            deny: deny.search(),
            bots: bots.search(),
            verdicts: Remembered::default(),
        })
    }))
}

/// The built-in list, compiled once for all rows.
fn bots() -> Result<Pattern, Fault> {
    static COMPILED: OnceLock<Result<Pattern, String>> = OnceLock::new();
    let compiled = COMPILED.get_or_init(|| Pattern::any_of(BOTS)).clone();
    compiled.map_err(|message| Fault { field: "deny", message })
}

struct BotDetection {
    allow: Search,
    deny: Search,
    bots: Search,
    /// Whether a User-Agent is let in: most are seen again and again.
    verdicts: Remembered<Box<[u8]>, bool, VERDICTS_MAX>,
}

impl Plugin for BotDetection {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let mut agents = exchange.request.fields.all("user-agent");
        match (agents.next(), agents.next()) {
            (None, _) => Step::NEXT,
            (Some(_), Some(_)) => {
                Step::answer(Answer::error(400, "Only one User-Agent header allowed"))
            }
            (Some(agent), None) if self.admits(agent) => Step::NEXT,
            (Some(_), None) => Step::answer(Answer::error(403, "Forbidden")),
        }
    }
}

impl BotDetection {
    fn admits(&self, agent: &[u8]) -> bool {
        if agent.len() > REMEMBERED_BYTES_MAX {
            return self.look(agent);
        }
        self.verdicts.get(agent).unwrap_or_else(|| {
            let verdict = self.look(agent);
            self.verdicts.keep(agent.into(), verdict);
            verdict
        })
    }

    fn look(&self, agent: &[u8]) -> bool {
        let agent = agent.trim_ascii();
        self.allow.is_match(agent) || !(self.deny.is_match(agent) || self.bots.is_match(agent))
    }
}

/// What a bot's name has in it. Only whether one is found counts, so what follows a name is left
/// out where anything may follow.
#[rustfmt::skip]
const BOTS: &[&str] = &[
    r"Pingdom\.com_bot_version_\d+\.\d",
    r"facebookexternalhit/\d+\.\d",
    r"Google.*/\+/web/snippet",
    r"\b(?:Boto3?|JetS3t|s3fs)/\d+\.\d",
    r"\baws-(?:cli|sdk-(?:cpp|go|java|nodejs|ruby2?|dotnet-(?:\d{1,2}|core)))/\d+\.\d",
    r" PTST/\d+\.?\d+$",
    r"/(?:(?:Ant-)?Nutch|[A-z]+[Bb]ot|Axtaris|fetchurl|Isara|ShopSalad|Tailsweep)[ -]\d",
    r"MSIE \d+\.\d+(?:[a-z]\d|[a-z]|);.* MSIECrawler",
    r"(?:[Aa]rchiver|[Ii]ndexer|[Bb]ot)[/ ]\d",
    "[Ss][Pp][Ii][Dd][Ee][Rr]|[Cc][Rr][Aa][Ww][Ll]|[Ss]crape",
    // A name and a version.
    r"\b008/\d", r"\bAltresium/\d", r"\bArgus/\d", r"\bBaiduMobaider/\d", r"\bBoardReader/\d",
    r"\bDNSGroup/\d", r"\bDataparkSearch/\d", r"\bEDI/\d", r"\bGoodzer/\d", r"\bGrub/\d",
    r"\bINGRID/\d", r"\bInfohelfer/\d", r"\bLinkedInBot/\d", r"\bLOOQ/\d", r"\bNutch/\d",
    r"\bOgScrper/\d", r"\bPathDefender/\d", r"\bPeew/\d", r"\bPostPost/\d", r"\bSteeler/\d",
    r"\bTwitterbot/\d", r"\bVSE/\d", r"\bWebCrunch/\d", r"\bWebZIP/\d", r"\bY!J-BR[A-Z]/\d",
    r"\bYahooSeeker/\d", r"\benvolk/\d", r"\bsproose/\d", r"\bwminer/\d",
    // Libraries.
    "Google-HTTP-Java-Client", "Apache-HttpClient", "Go-http-client", "scalaj-http",
    "http%20client", "Python-urllib", "HttpMonitor", "TLSProber", "WinHTTP", "JNLP", "okhttp",
    "aihttp", "reqwest", "axios", "unirest-(?:java|python|ruby|nodejs|php|net)",
    // Names.
    "Cityreview Robot", "Finderbots", "Job Roboter", "SiteCat Webbot", r"BotName/\$BotVersion",
    r"50\.nu", "Aboundex", "Accoona-[A-z]{1,30}-Agent", "AdsBot-Google", "altavista",
    "AppEngine-Google", r"archive.{0,30}\.org_bot", "archiver", "Ask Jeeves", "bingbot",
    "BingPreview", "blitzbot", "BlogBridge", "Bloglovin", "BoardReader Blog Indexer",
    "BoardReader Favicon Fetcher", "boitho.com-dc", "BotSeer", "BUbiNG",
    r"\b\w{0,30}favicon\w{0,30}\b", r"\bYeti", "Catchpoint", "[Cc]harlotte", "Checklinks",
    "clumboot", "Daumoa", "Feed Seeker Bot", "Feedbin", "findlinks", "Flamingo_SearchEngine",
    "FollowSite Bot", "furlbot", "Genieo", "gigabot", "GomezAgent", "gonzo1", "Googlebot",
    "Google SketchUp", "grub-client", "heritrix", "HiddenMarket", "holmes", "HooWWWer", "htdig",
    "ia_archiver", "Icarus6j", "ichiro", "IconSurf", "IlTrovatore", "InfuzApp", "InternetArchive",
    "IP2[a-z]{1,30}Bot", r"jbot\b", "KaloogaBot", "Kraken", "Kurzor", "larbin", "LEIA",
    "LesnikBot", "Linguee Bot", "LinkAider", "LinkedInBot", "Lite Bot", "Llaut", "lycos",
    r"Mail\.RU_Bot", "masscan", "masidani_bot", "Mediapartners-Google", "Microsoft .{0,30} Bot",
    "mogimogi", "mozDex", "MJ12bot", "msnbot", "msrbot", "Mtps Feed Aggregation System",
    "netresearch", "Netvibes", "NewsGator", "^NING", "Nutch", "Nymesis", "ObjectsSearch",
    "OgScrper", "Orbiter", "OOZBOT", "PagePeeker", "PagesInventory", "PaxleFramework",
    "Peeplo Screenshot Bot", "PlantyNet_WebRobot", "Pompos", "Qwantify", "Read%20Later", "Reaper",
    "RedCarpet", "Retreiver", "Riddler", "Rival IQ", "scooter", "Scrapy", "Scrubby",
    "searchsight", "seekbot", "semanticdiscovery", "SemrushBot", "Simpy", "SimplePie", "SEOstats",
    "SimpleRSS", "SiteCon", "Slackbot-LinkExpanding", "Slack-ImgProxy", "Slurp", "snappy",
    "Squrl Java", "Stringer", "TheUsefulbot", "ThumbShotsBot", r"Thumbshots\.ru", "Tiny Tiny RSS",
    "Twitterbot", "WhatsApp", "URL2PNG", "Vagabondo", "VoilaBot", "^vortex", "Votay bot",
    "^voyager", "WASALive.Bot", "Web-sniffer", "WebThumb", "WeSEE:[A-z]{1,30}", "WhatWeb", "WIRE",
    "WordPress", "Wotbox", r"www\.almaden\.ibm\.com", "Xenu(?:.s|) Link Sleuth",
    "Xerka [A-z]{1,30}Bot", "yacy", "YahooSeeker", "Yahoo! Slurp", r"Yandex\w{1,30}", "YodaoBot",
    "YottaaMonitor", "Yowedo", "^Zao", r"ZeBot_www\.ze\.bz", "ZooShot", "ZyBorg",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pdk::script::{Script, answered, fault};
    use serde_json::json;

    #[track_caller]
    fn check(config: serde_json::Value, agents: &[&str], expected: Option<(u16, &str)>) {
        let script = Script::new(&PLUGIN, config);
        let plugin = script.plugin();
        let fields: Vec<_> = agents.iter().map(|agent| ("User-Agent", *agent)).collect();
        // The second time it is remembered.
        for _ in 0..2 {
            let mut exchange = script.get("/", &fields);
            let found = answered(plugin.access(&mut exchange));
            let found = found.as_ref().map(|(status, body)| (*status, body.as_str()));
            assert_eq!(found, expected, "{agents:?}");
        }
    }

    const FORBIDDEN: Option<(u16, &str)> = Some((403, "Forbidden"));

    #[test]
    fn known_bots_are_refused() {
        for agent in [
            "Googlebot/2.1",
            "facebookexternalhit/1.1",
            "Twitterbot/1.0",
            " Twitterbot/1.0 ",
            "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            "Go-http-client/1.1",
            "my-company-Crawler/1.0",
            "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
            "aws-sdk-java/1.2.3",
            "okhttp",
        ] {
            check(json!({}), &[agent], FORBIDDEN);
        }
    }

    #[test]
    fn people_and_common_programs_are_not() {
        for agent in [
            "Mozilla/5.0 (X11; Linux)",
            "curl/8",
            "PycURL/7",
            "Wget/1.2",
            "python-requests/2",
            "",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
             Chrome/120.0.0.0 Safari/537.36",
        ] {
            check(json!({}), &[agent], None);
        }
        check(json!({}), &[], None);
    }

    #[test]
    fn allow_is_asked_before_deny_before_the_list() {
        let config = json!({"allow": ["Twitterbot", "^good"], "deny": ["evil", "good"]});
        check(config.clone(), &["Twitterbot/1.0"], None);
        check(config.clone(), &["evil/1"], FORBIDDEN);
        check(config.clone(), &["good/1"], None);
        check(config.clone(), &["a good/1"], FORBIDDEN);
        check(config, &["facebookexternalhit/1.1"], FORBIDDEN);
    }

    #[test]
    fn two_names_are_a_fault_of_the_client() {
        let refused = Some((400, "Only one User-Agent header allowed"));
        check(json!({}), &["a", "b"], refused);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let script = Script::new(&PLUGIN, json!({}));
        let plugin = script.plugin();
        for number in 0..VERDICTS_MAX * 2 + 7 {
            let mut exchange = script.get("/", &[("User-Agent", &format!("person {number}x"))]);
            assert!(answered(plugin.access(&mut exchange)).is_none());
        }
        let long = "x".repeat(8_000);
        let mut exchange = script.get("/", &[("User-Agent", &long)]);
        assert!(answered(plugin.access(&mut exchange)).is_none());
    }

    #[test]
    fn what_is_no_pattern_is_a_fault() {
        assert!(fault(&PLUGIN, json!({"allow": ["a("]})).is_some());
    }
}
