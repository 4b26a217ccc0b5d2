//! Query masks: the values of named arguments, each occurrence, never more and never less.

/// What stands in place of a masked value.
const MASK: &[u8] = b"*****";

/// Appends `target` with the values of the arguments in `masks` replaced.
///
/// An argument's name is compared as it is and percent-decoded (`+` is a space), because an
/// upstream would decode it, too. An empty value stays empty, as in the original.
pub fn push_target(out: &mut Vec<u8>, target: &[u8], masks: &[String]) {
    let question = target.iter().position(|byte| *byte == b'?');
    let (Some(question), false) = (question, masks.is_empty()) else {
        return out.extend_from_slice(target);
    };
    let (path, query) = target.split_at(question + 1);
    out.extend_from_slice(path);
    for (number, argument) in query.split(|byte| *byte == b'&').enumerate() {
        if number > 0 {
            out.push(b'&');
        }
        let equals = argument.iter().position(|byte| *byte == b'=').unwrap_or(argument.len());
        let (name, value) = argument.split_at(equals);
        if value.len() > 1 && is_masked(name, masks) {
            out.extend_from_slice(name);
            out.push(b'=');
            out.extend_from_slice(MASK);
        } else {
            out.extend_from_slice(argument);
        }
    }
}

/// Appends a form body without the arguments in `masks`, see [`is_form_masked`].
pub fn push_form(out: &mut Vec<u8>, form: &[u8], masks: &[String]) {
    let mut kept = false;
    for argument in form.split(|byte| *byte == b'&') {
        let equals = argument.iter().position(|byte| *byte == b'=').unwrap_or(argument.len());
        let (name, _value) = argument.split_at(equals);
        if is_form_masked(name, masks) {
            continue;
        }
        if kept {
            out.push(b'&');
        }
        kept = true;
        out.extend_from_slice(argument);
    }
}

/// Whether a form's field must go: one of a masked name, or one whose name has it as a part, since
/// `user[pin]` and `user.pin` are how forms write a key in depth.
pub(super) fn is_form_masked(name: &[u8], masks: &[String]) -> bool {
    let plain = |name: &[u8]| masks.iter().any(|mask| mask.as_bytes() == name);
    if plain(name) {
        return true;
    }
    let coded = name.iter().any(|byte| matches!(byte, b'%' | b'+'));
    let decoded = if coded { decoded(name) } else { Vec::new() };
    let name = if coded { &decoded } else { name };
    name.split(|byte| matches!(byte, b'[' | b']' | b'.')).any(plain)
}

fn is_masked(name: &[u8], masks: &[String]) -> bool {
    let plain = |name: &[u8]| masks.iter().any(|mask| mask.as_bytes() == name);
    plain(name) || (name.iter().any(|byte| matches!(byte, b'%' | b'+')) && plain(&decoded(name)))
}

fn decoded(name: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, behind)) = rest.split_first() {
        let pair = (digit(behind.first()), digit(behind.get(1)));
        rest = behind;
        match (byte, pair) {
            (b'%', (Some(high), Some(low))) => {
                out.push((high * 16 + low) as u8);
                rest = behind.get(2..).unwrap_or_default();
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(target: &str, masks: &[&str], expected: &str) {
        let masks: Vec<String> = masks.iter().map(|&mask| mask.to_owned()).collect();
        let mut out = Vec::new();
        push_target(&mut out, target.as_bytes(), &masks);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn each_occurrence_of_exactly_the_name() {
        check("/p?a=1&token=abc&b=2", &["token"], "/p?a=1&token=*****&b=2");
        check(
            "/p?mytoken=1&token=SECRET&token=b",
            &["token"],
            "/p?mytoken=1&token=*****&token=*****",
        );
        check("/p?api-key=SECRET&b=2", &["api-key"], "/p?api-key=*****&b=2");
        check("/p?t%6fken=S&x=token=1", &["token"], "/p?t%6fken=*****&x=token=1");
        check("/p?token=&token&=3", &["token"], "/p?token=&token&=3");
        check("/token=abc", &["token"], "/token=abc");
        check("/p?a=b=c", &["a"], "/p?a=*****");
        check("/p?a+b=c&%zz=1", &["a b"], "/p?a+b=*****&%zz=1");
    }

    #[test]
    fn form_arguments_go_whole() {
        let mut out = Vec::new();
        push_form(&mut out, b"password=s3&a=1&p%61ssword=x&b=&password", &["password".to_owned()]);
        assert_eq!(out, b"a=1&b=");
        let form =
            b"user%5Bpassword%5D=s3&u[password][0]=s&u.password=s&passwords[a]=1&[password=s";
        out.clear();
        push_form(&mut out, form, &["password".to_owned()]);
        assert_eq!(out, b"passwords[a]=1");
    }
}
