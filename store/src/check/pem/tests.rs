//! Keys and certificates made once with OpenSSL, in every form.

use super::*;

const EC_CRT: &str = include_str!("../../../tests/data/pem/ec.crt");
const EC_KEY: &str = include_str!("../../../tests/data/pem/ec.key");
const EC_PKCS8: &str = include_str!("../../../tests/data/pem/ec8.key");
const EC_BARE: &str = include_str!("../../../tests/data/pem/ec_bare.key");
const EC_PUB: &str = include_str!("../../../tests/data/pem/ec.pub");
const ED_CRT: &str = include_str!("../../../tests/data/pem/ed.crt");
const ED_KEY: &str = include_str!("../../../tests/data/pem/ed.key");
const RSA_CRT: &str = include_str!("../../../tests/data/pem/rsa.crt");
const RSA_KEY: &str = include_str!("../../../tests/data/pem/rsa.key");
const RSA_PUB: &str = include_str!("../../../tests/data/pem/rsa.pub");

fn row(pairs: [(&str, &str); 2]) -> Value {
    Value::object(pairs.map(|(name, text)| (name, Value::text(text))))
}

#[track_caller]
fn pairs(certificate: &str, key: &str, fits: bool) {
    let found = pair(&row([("cert", certificate), ("key", key)]));
    assert_eq!(found.is_ok(), fits, "{found:?}");
}

#[test]
fn keys_of_every_form_fit_their_certificate() {
    pairs(EC_CRT, EC_KEY, true);
    pairs(EC_CRT, EC_PKCS8, true);
    pairs(EC_CRT, EC_BARE, true);
    pairs(RSA_CRT, RSA_KEY, true);
    pairs(ED_CRT, ED_KEY, true);
    pairs(EC_CRT, RSA_KEY, false);
    pairs(RSA_CRT, ED_KEY, false);
    pairs("{vault://env/cert}", RSA_KEY, true);
    let chain = format!("{EC_CRT}{RSA_CRT}");
    pairs(&chain, EC_KEY, true);
    let with_parameters = format!(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{EC_KEY}"
    );
    pairs(EC_CRT, &with_parameters, true);
}

#[test]
fn what_cannot_be_read_is_refused() {
    let junk = ["", "x", EC_PUB, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"];
    for text in junk {
        let found = certificate(&Value::text(text)).expect_err("refused");
        assert!(found.starts_with("invalid certificate: x509.new: error:"), "{found}");
        let found = private_key(&Value::text(text)).expect_err("refused");
        assert!(found.starts_with("invalid key: pkey.new:load_key: error:"), "{found}");
    }
    for text in [EC_KEY, EC_PKCS8, EC_BARE, ED_KEY, RSA_KEY] {
        assert_eq!(private_key(&Value::text(text)), Ok(()));
        assert!(public_key(&Value::text(text)).is_err());
        let cut: String = text.lines().take(2).collect::<Vec<_>>().join("\n");
        assert!(private_key(&Value::text(cut)).is_err());
    }
}

#[test]
fn two_certificates_are_of_two_kinds() {
    let kinds = |one: &str, two: &str| kinds_differ(&row([("cert", one), ("cert_alt", two)]));
    assert_eq!(kinds(EC_CRT, RSA_CRT), Ok(()));
    assert!(kinds(EC_CRT, EC_CRT).is_err());
}

#[track_caller]
fn authority_of(text: &str, now_s: i64, expected: Result<(), &str>) {
    let row = Value::object([("cert", Value::text(text)), ("updated_at", Value::Integer(now_s))]);
    assert_eq!(authority(&row), expected.map_err(str::to_owned));
}

#[test]
fn an_authority_is_one_valid_certificate_that_may_sign() {
    authority_of(EC_CRT, 1_800_000_000, Ok(()));
    let twice = format!("{EC_CRT}{EC_CRT}");
    authority_of(&twice, 0, Err("please submit only one certificate at a time"));
    let expired = "certificate expired, \"Not After\" time is in the past";
    authority_of(EC_CRT, 9_000_000_000, Err(expired));
    let no_authority = "certificate does not appear to be a CA because it is missing the \"CA\" \
                        basic constraint";
    authority_of(RSA_CRT, 0, Err(no_authority));
    let digest = digest(&Value::text(EC_CRT));
    let expected = "48d3fce363f537205308 88af0975b808a4f21f276e7ffba992d26a8effc514a2";
    assert_eq!(digest, Ok(expected.replace(' ', "")));
}

#[test]
fn the_halves_of_a_key_belong_together() {
    let halves = |public: &str, private: &str| {
        key_pair(&row([("public_key", public), ("private_key", private)]))
    };
    assert_eq!(halves(RSA_PUB, RSA_KEY), Ok(()));
    assert_eq!(halves(EC_PUB, EC_PKCS8), Ok(()));
    assert_eq!(halves("{vault://env/a}", "x"), Ok(()));
    let fault = |public, private| halves(public, private).expect_err("refused");
    assert_eq!(fault(EC_PUB, RSA_KEY), "public key does not match private key");
    assert_eq!(fault("x", RSA_KEY), "could not load public key");
    assert!(fault(RSA_PUB, "x").starts_with("could not load private key"));
}
