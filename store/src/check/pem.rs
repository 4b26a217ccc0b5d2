//! Checks of certificates and keys in PEM.
//!
//! The words behind `invalid certificate:` and `invalid key:` are OpenSSL's for text that is no PEM
//! at all; we have no others.
//!
//! Source: Kong `kong/db/schema/entities/{certificates,ca_certificates,keys}.lua`,
//! `kong/db/schema/typedefs.lua`; messages as recorded from 3.9.1.

mod der;
mod keys;

use super::is_reference;
use crate::value::Value;
use aws_lc_rs::digest;
use keys::Public;
use std::fmt::Write;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What OpenSSL says about text that is neither PEM nor DER: it reads the first bytes as the
/// beginning of DER, and one byte alone is not even that. Recorded from 3.9.1 for one byte; for
/// more it is what Debian's OpenSSL 3.0 says.
fn unreadable(value: &Value) -> &'static str {
    if text(value).len() < 2 {
        "error:680008E:asn1 encoding routines:asn1_d2i_read_bio:not enough data:\
         crypto/asn1/a_d2i_fp.c:155:"
    } else {
        "error:680008E:asn1 encoding routines:asn1_d2i_read_bio:not enough data:\
         crypto/asn1/a_d2i_fp.c:218:"
    }
}

/// What Kong says of a private key that must be PEM and is not. Not recorded from 3.9.1: the line
/// at its end differs between versions of OpenSSL.
const UNDECODABLE: &str = concat!(
    "could not load private keypkey.new:load_key: error:1E08010C:DECODER routines:",
    "OSSL_DECODER_from_bio:unsupported:crypto/encode_decode/decoder_lib.c:102:"
);
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// Most blocks of one text that are looked at.
const BLOCKS_MAX: usize = 64;

fn text(value: &Value) -> &str {
    value.as_text().unwrap_or_default()
}

/// The blocks of a text that can be read.
fn blocks(text: &str) -> impl Iterator<Item = Pem> {
    Pem::iter_from_buffer(text.as_bytes()).take(BLOCKS_MAX).map_while(Result::ok)
}

/// The first certificate of a text, as DER.
fn first_certificate(text: &str) -> Option<Vec<u8>> {
    let labels = ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"];
    let block = blocks(text).find(|block| labels.contains(&block.label.as_str()))?;
    X509Certificate::from_der(&block.contents).ok()?;
    Some(block.contents)
}

/// Calls `look` with the first certificate of a text.
fn with_certificate<T>(text: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> Option<T> {
    let der = first_certificate(text)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Some(look(&certificate))
}

fn certified(text: &str) -> Option<Public> {
    with_certificate(text, |certificate| Public::of_info(certificate.public_key().raw))?
}

/// The public half of the first private key of a text.
fn private(text: &str) -> Option<Public> {
    blocks(text).find_map(|block| match block.label.as_str() {
        "PRIVATE KEY" => Public::of_pkcs8(&block.contents),
        "RSA PRIVATE KEY" => Public::of_rsa_private(&block.contents),
        "EC PRIVATE KEY" => Public::of_ec_private(&block.contents, None),
        _ => None,
    })
}

/// The first public key of a text.
fn public(text: &str) -> Option<Public> {
    blocks(text).find_map(|block| match block.label.as_str() {
        "PUBLIC KEY" => Public::of_info(&block.contents),
        "RSA PUBLIC KEY" => Public::of_rsa(&block.contents),
        _ => None,
    })
}

/// A certificate; what stands behind the first one is not looked at.
///
/// # Errors
/// `invalid certificate: …`.
pub fn certificate(value: &Value) -> Result<(), String> {
    match first_certificate(text(value)) {
        Some(_) => Ok(()),
        None => Err(format!("invalid certificate: x509.new: {}", unreadable(value))),
    }
}

/// A private key without a password.
///
/// # Errors
/// `invalid key: …`.
pub fn private_key(value: &Value) -> Result<(), String> {
    match private(text(value)) {
        Some(_) => Ok(()),
        None => Err(format!("invalid key: pkey.new:load_key: {}", unreadable(value))),
    }
}

/// A public key.
///
/// # Errors
/// `invalid key: …`.
pub fn public_key(value: &Value) -> Result<(), String> {
    match public(text(value)) {
        Some(_) => Ok(()),
        None => Err(format!("invalid key: pkey.new:load_key: {}", unreadable(value))),
    }
}

/// `cert` and `key` belong together.
///
/// # Errors
/// Kong's words.
pub fn pair(row: &Value) -> Result<(), String> {
    match belong(row, "cert", "key") {
        true => Ok(()),
        false => Err("certificate does not match key".to_owned()),
    }
}

/// `cert_alt` and `key_alt` belong together.
///
/// # Errors
/// Kong's words.
pub fn pair_alt(row: &Value) -> Result<(), String> {
    match belong(row, "cert_alt", "key_alt") {
        true => Ok(()),
        false => Err("alternative certificate does not match key".to_owned()),
    }
}

/// Whether both halves belong together, or one of them is not there to be seen.
fn belong(row: &Value, certificate: &str, key: &str) -> bool {
    match (seen(row, certificate), seen(row, key)) {
        (Some(certificate), Some(key)) => certified(certificate) == private(key),
        _ => true,
    }
}

/// A text that is no reference into a vault.
fn seen<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    row.get(name).as_text().filter(|text| !is_reference(text))
}

/// `cert` and `cert_alt` are of different kinds.
///
/// # Errors
/// Kong's words.
pub fn kinds_differ(row: &Value) -> Result<(), String> {
    let kind = |name: &str| seen(row, name).and_then(certified);
    match (kind("cert"), kind("cert_alt")) {
        (Some(one), Some(two)) if one.is_like(&two) => {
            Err("certificate and alternative certificate need to have different type (e.g. RSA \
                 and ECDSA), the provided certificates were both of the same type"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// `cert` is one certificate, has not ended when the row is written, and may sign others.
///
/// # Errors
/// Kong's words.
pub fn authority(row: &Value) -> Result<(), String> {
    let text = text(row.get("cert"));
    if text.matches(BEGIN).nth(1).is_some() {
        return Err("please submit only one certificate at a time".to_owned());
    }
    let found = with_certificate(text, |certificate| {
        let end_s = certificate.validity().not_after.timestamp();
        let constraints = certificate.basic_constraints().ok().flatten();
        (end_s, constraints.is_some_and(|found| found.value.ca))
    });
    let now_s = row.get("updated_at").as_integer().unwrap_or(0);
    match found {
        Some((end_s, _)) if end_s < now_s => {
            Err("certificate expired, \"Not After\" time is in the past".to_owned())
        }
        Some((_, false)) => {
            Err("certificate does not appear to be a CA because it is missing the \"CA\" basic \
                 constraint"
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// SHA-256 of the first certificate's DER, in hexadecimal.
///
/// # Errors
/// It is no certificate.
pub fn digest(value: &Value) -> Result<String, String> {
    let der = first_certificate(text(value))
        .ok_or_else(|| "cannot create digest value of certificate".to_owned())?;
    let mut shown = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, &der).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(shown, "{byte:02x}");
    }
    Ok(shown)
}

/// `public_key` and `private_key` of a record can be read and belong together.
///
/// # Errors
/// Kong's words.
pub fn key_pair(record: &Value) -> Result<(), String> {
    let given = |name: &str| record.get(name).as_text();
    if ["private_key", "public_key"].iter().any(|name| given(name).is_some_and(is_reference)) {
        return Ok(());
    }
    let read = |text: Option<&str>, read: fn(&str) -> Option<Public>, words: &str| {
        text.map(|text| read(text).ok_or_else(|| words.to_owned())).transpose()
    };
    let public = read(given("public_key"), public, "could not load public key")?;
    let private = read(given("private_key"), private, UNDECODABLE)?;
    match (public, private) {
        (Some(public), Some(private)) if public != private => {
            Err("public key does not match private key".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
