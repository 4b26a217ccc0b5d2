//! A multipart form, taken apart just enough to read and to change whole parts by name (RFC 7578).

/// Most parts that a form may have to be changed.
const PARTS_MAX: usize = 1_024;

/// The parts of a form.
#[derive(Debug, PartialEq)]
pub struct Form {
    boundary: Vec<u8>,
    parts: Vec<Part>,
}

/// One part: its head as it came, and its body.
#[derive(Debug, PartialEq)]
struct Part {
    name: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Form {
    /// Takes a body apart; none if the type tells no boundary, or the body is no form of it. An
    /// empty body is a form without parts.
    pub fn parse(body: &[u8], content_type: &[u8]) -> Option<Self> {
        let boundary = boundary(content_type)?;
        let mut form = Self { parts: Vec::new(), boundary };
        if body.is_empty() {
            return Some(form);
        }
        let mark = [b"--", form.boundary.as_slice()].concat();
        let mut rest = body.get(memchr::memmem::find(body, &mark)?..)?;
        let limit = [b"\r\n", mark.as_slice()].concat();
        loop {
            rest = rest.get(mark.len()..)?;
            if rest.starts_with(b"--") {
                return Some(form);
            }
            rest = rest.strip_prefix(b"\r\n")?;
            let end = memchr::memmem::find(rest, &limit)?;
            form.parts.push(Part::parse(rest.get(..end)?)?);
            rest = rest.get(end + 2..)?;
            if form.parts.len() > PARTS_MAX {
                return None;
            }
        }
    }

    /// How many parts there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Names and bodies of all parts, in order.
    pub fn parts(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parts.iter().map(|part| (part.name.as_slice(), part.body.as_slice()))
    }

    /// The body of the first part of a name.
    pub fn find(&self, name: &[u8]) -> Option<&[u8]> {
        self.parts().find_map(|(own, body)| (own == name).then_some(body))
    }

    /// Takes out every part of a name.
    pub fn remove(&mut self, name: &[u8]) {
        self.parts.retain(|part| part.name != name);
    }

    /// Adds a part with nothing but a name in its head.
    pub fn add(&mut self, name: &[u8], body: Vec<u8>) {
        self.parts.push(Part::simple(name, body));
    }

    /// Writes the form.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            out.extend_from_slice(b"--");
            out.extend_from_slice(&self.boundary);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&part.head);
            out.extend_from_slice(b"\r\n\r\n");
            out.extend_from_slice(&part.body);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"--\r\n");
        out
    }
}

impl Part {
    fn parse(text: &[u8]) -> Option<Self> {
        let (head, body) = match text.strip_prefix(b"\r\n") {
            Some(body) => (&b""[..], body),
            None => {
                let end = memchr::memmem::find(text, b"\r\n\r\n")?;
                (text.get(..end)?, text.get(end + 4..)?)
            }
        };
        let name = head.split(|byte| *byte == b'\n').find_map(disposed_name).unwrap_or_default();
        Some(Self { name, head: head.to_vec(), body: body.to_vec() })
    }

    fn simple(name: &[u8], body: Vec<u8>) -> Self {
        let escaped: Vec<u8> = name
            .iter()
            .flat_map(|byte| match byte {
                b'"' => b"%22".to_vec(),
                b'\r' => b"%0D".to_vec(),
                b'\n' => b"%0A".to_vec(),
                other => vec![*other],
            })
            .collect();
        let head = [b"Content-Disposition: form-data; name=\"", escaped.as_slice(), b"\""].concat();
        Self { name: name.to_vec(), head, body }
    }
}

/// The name in a line `Content-Disposition: form-data; name="…"`.
fn disposed_name(line: &[u8]) -> Option<Vec<u8>> {
    const FIELD: &[u8] = b"content-disposition:";
    if !line.get(..FIELD.len())?.eq_ignore_ascii_case(FIELD) {
        return None;
    }
    parameter(line.get(FIELD.len()..)?, b"name")
}

fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let found = parameter(content_type, b"boundary")?;
    (1..=70).contains(&found.len()).then_some(found)
}

/// The value of a parameter behind a semicolon, without its quotes.
fn parameter(text: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut rest = text;
    loop {
        rest = rest.get(memchr::memchr(b';', rest)? + 1..)?.trim_ascii_start();
        let Some(value) = rest.get(..name.len()).filter(|n| n.eq_ignore_ascii_case(name)) else {
            continue;
        };
        let Some(value) = rest.get(value.len()..)?.strip_prefix(b"=") else { continue };
        return Some(match value.strip_prefix(b"\"") {
            Some(quoted) => quoted.get(..memchr::memchr(b'"', quoted)?)?.to_vec(),
            None => {
                let end = memchr::memchr(b';', value).unwrap_or(value.len());
                value.get(..end)?.trim_ascii().to_vec()
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: &[u8] = b"multipart/form-data; boundary=\"xx\"";

    #[test]
    fn a_form_is_written_as_it_came() {
        let body = "--xx\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--xx\r\n\
            content-disposition: form-data; filename=\"f\"; name=b\r\nContent-Type: a/b\r\n\r\n\r\n2\
            \r\n--xx--\r\n";
        let form = Form::parse(body.as_bytes(), KIND).unwrap();
        let names: Vec<_> = form.parts.iter().map(|part| part.name.clone()).collect();
        assert_eq!(names, [b"a", b"b"]);
        assert_eq!(form.parts.last().unwrap().body, b"\r\n2");
        assert_eq!(String::from_utf8(form.write()).unwrap(), body);
        let empty = Form::parse(b"", KIND).unwrap();
        assert_eq!(empty.write(), b"--xx--\r\n");
    }

    #[test]
    fn what_is_no_form_is_left_alone() {
        for body in ["x", "--xx", "--xx\r\n", "--xx\r\na: b\r\n--xx--", "--xx\r\na\r\n\r\nb"] {
            assert_eq!(Form::parse(body.as_bytes(), KIND), None, "{body}");
        }
        assert_eq!(Form::parse(b"--xx--", b"multipart/form-data"), None);
        assert_eq!(Form::parse(b"--xx--", b"multipart/form-data; boundary="), None);
    }

    proptest! {
        #[test]
        fn no_body_is_too_much(
            parts in prop::collection::vec(prop::sample::select(vec![
                "--xx", "\r\n", "--", "a", "Content-Disposition: form-data; name=\"a\"", "\r\n\r\n",
            ]), 0..20),
        ) {
            let _either = Form::parse(parts.concat().as_bytes(), KIND).map(|form| form.write());
        }
    }
}
