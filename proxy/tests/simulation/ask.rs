//! What clients ask and what upstreams do with it, all drawn from the seed.

/// Numbers from a seed: splitmix64.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5151_7a7a_1234_8888)
    }

    /// Dice of their own for one peer, so that what it does is not moved by what others do.
    pub(crate) fn sibling(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub(crate) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1_000) < per_mille
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A length: mostly small, sometimes above what a page, a pipe or the gateway's buffer holds.
    fn length(&mut self) -> usize {
        match self.below(10) {
            0 => 0,
            1..7 => 1 + self.below(300),
            7..9 => self.below(9_000),
            _ => self.below(40_000),
        }
    }
}

/// The byte of a body at a place: bodies of two exchanges differ everywhere.
fn byte(salt: u64, at: usize) -> u8 {
    let mixed = (salt << 20 | (at as u64 / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_le_bytes()[1 + at % 7]
}

fn bytes(salt: u64, length: usize) -> Vec<u8> {
    (0..length).map(|at| byte(salt, at)).collect()
}

/// The routes of the scripted gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Road {
    /// Bodies are held before the upstream is asked.
    Held,
    /// Bodies stream.
    Streamed,
    /// A balancer with three peers.
    Spread,
    /// A plugin answers.
    Answered,
    /// No route.
    Nowhere,
    /// A gRPC service.
    Calls,
}

impl Road {
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Held => "/held",
            Self::Streamed => "/streamed",
            Self::Spread => "/spread",
            Self::Answered => "/answered",
            Self::Nowhere => "/nowhere",
            Self::Calls => "/calls",
        }
    }
}

/// What an upstream does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Length,
    Chunked,
    UntilClose,
    NoContent,
    NotModified,
    Interim,
    /// Answers before it reads the body.
    Early,
    /// The last answer of its connection, and says so.
    LastOne,
    /// The last answer of its connection, without saying so.
    LeavesAfter,
    /// Answers late, but in time.
    Slow,
    /// Sends the body in pieces, late.
    SlowBody,
    OldVersion,
    /// Answers too late.
    Hang,
    CutHead,
    CutLength,
    CutChunked,
    /// Reads, and closes without a word.
    Silent,
    Garbage,
}

const DOINGS: [Doing; 18] = [
    Doing::Length,
    Doing::Chunked,
    Doing::UntilClose,
    Doing::NoContent,
    Doing::NotModified,
    Doing::Interim,
    Doing::Early,
    Doing::LastOne,
    Doing::LeavesAfter,
    Doing::Slow,
    Doing::SlowBody,
    Doing::OldVersion,
    Doing::Hang,
    Doing::CutHead,
    Doing::CutLength,
    Doing::CutChunked,
    Doing::Silent,
    Doing::Garbage,
];
/// So many of them are good.
const GOOD: usize = 12;

impl Doing {
    /// Whether an answer that looks whole cannot be the upstream's.
    pub(crate) const fn is_never_whole(self) -> bool {
        matches!(
            self,
            Self::CutHead | Self::CutLength | Self::CutChunked | Self::Silent | Self::Garbage
        )
    }
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    None,
    Length,
    Chunked,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) n: u32,
    pub(crate) road: Road,
    pub(crate) method: &'static str,
    pub(crate) coding: Coding,
    pub(crate) body_bytes: usize,
    pub(crate) expects: bool,
    pub(crate) doing: Doing,
    pub(crate) answer_bytes: usize,
    pub(crate) closes: bool,
}

impl Ask {
    /// Request `n`; `calm` leaves out what upstreams do wrong.
    pub(crate) fn draw(n: u32, calm: bool, h2: bool, dice: &mut Dice) -> Self {
        let roads = [Road::Held, Road::Streamed, Road::Spread, Road::Held, Road::Streamed];
        let road = match dice.below(20) {
            0 => Road::Nowhere,
            1..4 => Road::Answered,
            4..8 if h2 => Road::Calls,
            _ => dice.pick(&roads),
        };
        let method = match road {
            Road::Calls => "POST",
            _ => dice.pick(&["GET", "GET", "GET", "HEAD", "PUT", "POST", "POST", "DELETE"]),
        };
        let coding = match method {
            "GET" | "HEAD" => Coding::None,
            _ => dice.pick(&[Coding::None, Coding::Length, Coding::Length, Coding::Chunked]),
        };
        let body_bytes = if coding == Coding::None { 0 } else { dice.length() };
        let doing =
            if calm || dice.chance(500) { DOINGS[dice.below(GOOD)] } else { dice.pick(&DOINGS) };
        let doing = if calm && doing == Doing::LeavesAfter { Doing::Length } else { doing };
        Self {
            n,
            road,
            method,
            coding,
            body_bytes,
            expects: body_bytes > 0 && dice.chance(100),
            doing,
            answer_bytes: dice.length(),
            closes: dice.chance(50),
        }
    }

    /// The target says all that the upstream must know.
    pub(crate) fn target(&self) -> String {
        let doing = DOINGS.iter().position(|doing| *doing == self.doing).unwrap();
        let Self { n, body_bytes, answer_bytes, .. } = self;
        format!("{}/x{n}.{doing}.{body_bytes}.{answer_bytes}", self.road.path())
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        bytes(u64::from(self.n) * 2, self.body_bytes)
    }

    pub(crate) fn told(&self) -> Told {
        Told::of(&self.target()).unwrap()
    }

    pub(crate) fn answers_body(&self) -> bool {
        let bodiless = matches!(self.doing, Doing::NoContent | Doing::NotModified);
        self.method != "HEAD" && (!bodiless || self.road == Road::Calls)
    }
}

/// What a target says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) n: u32,
    pub(crate) doing: Doing,
    body_bytes: usize,
    answer_bytes: usize,
}

impl Told {
    pub(crate) fn of(target: &str) -> Option<Self> {
        let mut parts = target.rsplit_once("/x")?.1.split('.').map(str::parse::<usize>);
        let mut next = || parts.next()?.ok();
        Some(Self {
            n: next()? as u32,
            doing: DOINGS[next()?],
            body_bytes: next()?,
            answer_bytes: next()?,
        })
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        bytes(u64::from(self.n) * 2, self.body_bytes)
    }

    pub(crate) fn answer(&self) -> Vec<u8> {
        bytes(u64::from(self.n) * 2 + 1, self.answer_bytes)
    }
}
