//! Whether a text is Lua: its syntax alone, nothing is run.
//!
//! Kong refuses plugin configurations whose Lua does not parse; so they are refused here as well,
//! long before any of it can run. The grammar is LuaJIT's (Lua 5.1 with `goto`, and what Kong's
//! build takes from 5.2).
//!
//! Source: the Lua 5.1 manual, section 8; LuaJIT `lj_parse.c`, `lj_debug.c` for the words.

mod lexer;

use crate::value::Value;
use lexer::{Lexer, Token};

/// Deepest nesting of blocks, functions and expressions, as in LuaJIT.
const LEVELS_MAX: usize = 200;
/// Most of the first line that is named in a fault.
const NAME_BYTES_MAX: usize = 45;

/// A log field's code.
///
/// # Errors
/// Kong's words.
pub fn expression(code: &Value) -> Result<(), String> {
    chunk(code.as_text().unwrap_or_default())
        .map_err(|why| format!("Error parsing function: {why}"))
}

/// A chunk of Lua.
///
/// # Errors
/// `[string "…"]:line: what near 'where'`.
pub fn chunk(code: &str) -> Result<(), String> {
    let mut parser = Parser { lexer: Lexer::new(code), token: Token::End, level: 0, varargs: true };
    let parsed = parser.advance().and_then(|()| parser.block()).and_then(|()| parser.end());
    parsed.map_err(|why| format!("[string \"{}\"]:{}: {why}", name(code), parser.lexer.line()))
}

/// A chunk is called by its first line.
fn name(code: &str) -> String {
    let line = code.split(|symbol: char| symbol < ' ').next().unwrap_or_default();
    if line.len() == code.len() && line.len() <= NAME_BYTES_MAX + 3 {
        return line.to_owned();
    }
    let mut end = line.len().min(NAME_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}...", &line[..end])
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    token: Token<'a>,
    level: usize,
    /// Whether `...` means something here.
    varargs: bool,
}

type Parsed = Result<(), String>;

/// What an expression can be used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// It can be assigned to.
    Target,
    /// It stands for itself as a statement.
    Call,
    /// Neither.
    Value,
}

const BINARY: &[&str] =
    &["+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", "<=", ">", ">=", "and", "or"];
const BLOCK_ENDS: &[&str] = &["end", "else", "elseif", "until"];

impl<'a> Parser<'a> {
    fn advance(&mut self) -> Parsed {
        self.token = self.lexer.next()?;
        Ok(())
    }

    fn near<T>(&self, words: &str) -> Result<T, String> {
        Err(format!("{words} near '{}'", self.token.text()))
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.token, Token::Symbol(found) if found == symbol)
    }

    fn takes(&mut self, symbol: &str) -> Result<bool, String> {
        let is = self.is(symbol);
        if is {
            self.advance()?;
        }
        Ok(is)
    }

    fn must(&mut self, symbol: &str) -> Parsed {
        if self.takes(symbol)? { Ok(()) } else { self.near(&format!("'{symbol}' expected")) }
    }

    /// The end of what a word began at a line.
    fn close(&mut self, symbol: &str, opened: &str, line: usize) -> Parsed {
        if self.takes(symbol)? {
            return Ok(());
        }
        if line == self.lexer.line() {
            return self.near(&format!("'{symbol}' expected"));
        }
        self.near(&format!("'{symbol}' expected (to close '{opened}' at line {line})"))
    }

    fn word(&mut self) -> Parsed {
        match self.token {
            Token::Name(_) => self.advance(),
            _ => self.near("<name> expected"),
        }
    }

    fn end(&mut self) -> Parsed {
        if self.token == Token::End { Ok(()) } else { self.near("'<eof>' expected") }
    }

    fn deeper<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, String>,
    ) -> Result<T, String> {
        self.level += 1;
        if self.level > LEVELS_MAX {
            return Err("chunk has too many syntax levels".to_owned());
        }
        let parsed = inside(self);
        self.level -= 1;
        parsed
    }

    fn block(&mut self) -> Parsed {
        self.deeper(|parser| {
            while parser.token != Token::End && !BLOCK_ENDS.iter().any(|end| parser.is(end)) {
                if parser.is("return") {
                    return parser.give_back();
                }
                parser.statement()?;
            }
            Ok(())
        })
    }

    fn give_back(&mut self) -> Parsed {
        self.advance()?;
        let ends =
            self.token == Token::End || self.is(";") || BLOCK_ENDS.iter().any(|end| self.is(end));
        if !ends {
            self.expressions()?;
        }
        self.takes(";")?;
        Ok(())
    }

    fn statement(&mut self) -> Parsed {
        let line = self.lexer.line();
        let Token::Symbol(symbol) = self.token else {
            return match self.token {
                Token::Name("goto") if self.lexer.name_follows() => {
                    self.advance()?;
                    self.word()
                }
                _ => self.call_or_assignment(),
            };
        };
        match symbol {
            ";" | "break" => self.advance(),
            "if" => self.condition(line),
            "while" => {
                self.advance()?;
                self.expression()?;
                self.must("do")?;
                self.block()?;
                self.close("end", "while", line)
            }
            "do" => {
                self.advance()?;
                self.block()?;
                self.close("end", "do", line)
            }
            "for" => self.walk(line),
            "repeat" => {
                self.advance()?;
                self.block()?;
                self.close("until", "repeat", line)?;
                self.expression()
            }
            "function" => {
                self.advance()?;
                self.word()?;
                while self.takes(".")? {
                    self.word()?;
                }
                if self.takes(":")? {
                    self.word()?;
                }
                self.body(line)
            }
            "local" => self.local(line),
            "::" => {
                self.advance()?;
                self.word()?;
                self.must("::")
            }
            _ => self.call_or_assignment(),
        }
    }

    fn condition(&mut self, line: usize) -> Parsed {
        self.advance()?;
        self.expression()?;
        self.must("then")?;
        self.block()?;
        while self.takes("elseif")? {
            self.expression()?;
            self.must("then")?;
            self.block()?;
        }
        if self.takes("else")? {
            self.block()?;
        }
        self.close("end", "if", line)
    }

    fn walk(&mut self, line: usize) -> Parsed {
        self.advance()?;
        self.word()?;
        if self.takes("=")? {
            self.expression()?;
            self.must(",")?;
            self.expression()?;
            if self.takes(",")? {
                self.expression()?;
            }
        } else {
            while self.takes(",")? {
                self.word()?;
            }
            if !self.takes("in")? {
                return self.near("'=' or 'in' expected");
            }
            self.expressions()?;
        }
        self.must("do")?;
        self.block()?;
        self.close("end", "for", line)
    }

    fn local(&mut self, line: usize) -> Parsed {
        self.advance()?;
        if self.takes("function")? {
            self.word()?;
            return self.body(line);
        }
        self.word()?;
        while self.takes(",")? {
            self.word()?;
        }
        if self.takes("=")? { self.expressions() } else { Ok(()) }
    }

    fn call_or_assignment(&mut self) -> Parsed {
        let mut used = self.suffixed()?;
        if used == Use::Call {
            return Ok(());
        }
        while self.is(",") {
            if used != Use::Target {
                return self.near("syntax error");
            }
            self.advance()?;
            used = self.suffixed()?;
        }
        if used != Use::Target {
            return self.near("syntax error");
        }
        self.must("=")?;
        self.expressions()
    }

    fn expressions(&mut self) -> Parsed {
        self.expression()?;
        while self.takes(",")? {
            self.expression()?;
        }
        Ok(())
    }

    /// Precedence does not matter to whether it parses.
    fn expression(&mut self) -> Parsed {
        self.deeper(|parser| {
            loop {
                while matches!(parser.token, Token::Symbol("not" | "-" | "#")) {
                    parser.advance()?;
                }
                parser.operand()?;
                if !BINARY.iter().any(|operator| parser.is(operator)) {
                    return Ok(());
                }
                parser.advance()?;
            }
        })
    }

    fn operand(&mut self) -> Parsed {
        match self.token {
            Token::Number(_) | Token::Text(_) | Token::Symbol("nil" | "true" | "false") => {
                self.advance()
            }
            Token::Symbol("...") if self.varargs => self.advance(),
            Token::Symbol("...") => self.near("cannot use '...' outside a vararg function"),
            Token::Symbol("{") => self.table(),
            Token::Symbol("function") => {
                let line = self.lexer.line();
                self.advance()?;
                self.body(line)
            }
            _ => self.suffixed().map(drop),
        }
    }

    /// A name or an expression in brackets, and what is taken from it or called.
    fn suffixed(&mut self) -> Result<Use, String> {
        let line = self.lexer.line();
        let mut used = match self.token {
            Token::Name(_) => {
                self.advance()?;
                Use::Target
            }
            Token::Symbol("(") => {
                self.advance()?;
                self.expression()?;
                self.close(")", "(", line)?;
                Use::Value
            }
            _ => return self.near("unexpected symbol"),
        };
        loop {
            match self.token {
                Token::Symbol(".") => {
                    self.advance()?;
                    self.word()?;
                    used = Use::Target;
                }
                Token::Symbol("[") => {
                    self.advance()?;
                    self.expression()?;
                    self.must("]")?;
                    used = Use::Target;
                }
                Token::Symbol(":") => {
                    self.advance()?;
                    self.word()?;
                    self.arguments()?;
                    used = Use::Call;
                }
                Token::Symbol("(" | "{") | Token::Text(_) => {
                    self.arguments()?;
                    used = Use::Call;
                }
                _ => return Ok(used),
            }
        }
    }

    fn arguments(&mut self) -> Parsed {
        let line = self.lexer.line();
        match self.token {
            Token::Text(_) => self.advance(),
            Token::Symbol("{") => self.table(),
            Token::Symbol("(") => {
                self.advance()?;
                if self.takes(")")? {
                    return Ok(());
                }
                self.expressions()?;
                self.close(")", "(", line)
            }
            _ => self.near("function arguments expected"),
        }
    }

    fn table(&mut self) -> Parsed {
        let line = self.lexer.line();
        self.must("{")?;
        while !self.is("}") {
            if self.takes("[")? {
                self.expression()?;
                self.must("]")?;
                self.must("=")?;
            } else if matches!(self.token, Token::Name(_)) && self.lexer.assignment_follows() {
                self.advance()?;
                self.advance()?;
            }
            self.expression()?;
            if !self.takes(",")? && !self.takes(";")? {
                break;
            }
        }
        self.close("}", "{", line)
    }

    fn body(&mut self, line: usize) -> Parsed {
        self.must("(")?;
        let outer = std::mem::replace(&mut self.varargs, false);
        while !self.is(")") {
            if self.takes("...")? {
                self.varargs = true;
                break;
            }
            self.word()?;
            if !self.takes(",")? {
                break;
            }
            if self.is(")") {
                return self.near("<name> or '...' expected");
            }
        }
        self.must(")")?;
        self.block()?;
        self.varargs = outer;
        self.close("end", "function", line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lua_parses() {
        for code in [
            "",
            "return 1",
            "return function(...) return ... end",
            "local a, b = 1, 'x' .. \"y\\z  \\x41\\065\" -- c",
            "if a then b() elseif c.d[1]:e{1} then else end",
            "for i = 1, 10, 2 do break end for k, v in pairs(t) do t[k] = v end",
            "while not x == #y do repeat local z until z end",
            "function a.b.c:d(e, ...) return e, ... end local function f() end",
            "t = {1, 'a'; b = 2, [c] = {}, function() end,}",
            "a.b, c[1] = f 'x', g [[ ]=] ]] h[==[\n]]]==]",
            "goto x; do ::x:: end local goto = 1",
            "--[[ long\n]] return 0x1F + 1e-3 + .5 + 3LL + 0xffULL + 2i + 1..2",
            "local s = kong.log.set_serialize_value('a', 1) return s",
            "return a and b or not c == -d ^ 2",
            "f{}.x = 1; (a).b = 2; a.b:c'x'",
            ";;",
        ] {
            assert_eq!(chunk(code), Ok(()), "{code}");
        }
    }

    #[track_caller]
    fn check(code: &str, expected: &str) {
        assert_eq!(chunk(code), Err(expected.to_owned()), "{code}");
    }

    #[test]
    fn what_is_no_lua_is_told_with_its_line() {
        check("return (", "[string \"return (\"]:1: unexpected symbol near '<eof>'");
        check("x", "[string \"x\"]:1: '=' expected near '<eof>'");
        check("x = \n= 1", "[string \"x = ...\"]:2: unexpected symbol near '='");
        check(
            "if a then\nb()",
            "[string \"if a then...\"]:2: 'end' expected (to close 'if' at \
                                 line 1) near '<eof>'",
        );
        check("f() = 1", "[string \"f() = 1\"]:1: unexpected symbol near '='");
        check("(a) = 1", "[string \"(a) = 1\"]:1: syntax error near '='");
        check("end", "[string \"end\"]:1: '<eof>' expected near 'end'");
        check("return 'a", "[string \"return 'a\"]:1: unfinished string near '<eof>'");
        check("return 1x", "[string \"return 1x\"]:1: malformed number near '1x'");
        check("local 1", "[string \"local 1\"]:1: <name> expected near '1'");
        check("--[[ a", "[string \"--[[ a\"]:1: unfinished long comment near '<eof>'");
        check(
            "return \"\\q\"",
            "[string \"return \"\\q\"\"]:1: invalid escape sequence near '\\q'",
        );
        check(
            "function f() return ... end",
            "[string \"function f() return ... end\"]:1: cannot \
                                              use '...' outside a vararg function near '...'",
        );
        let deep = format!("return {}", "(".repeat(10_000));
        assert!(chunk(&deep).unwrap_err().ends_with("chunk has too many syntax levels"));
        let deep = "if a then ".repeat(10_000);
        assert!(chunk(&deep).unwrap_err().ends_with("chunk has too many syntax levels"));
    }
}
