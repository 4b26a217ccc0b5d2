//! A plugin that takes part in every exchange: it answers some, looks at bodies, and reports each.

use std::cell::RefCell;

use plugins::pdk::{
    Answer, BodyState, Config, Exchange, Fault, Outcome, Phase, Plugin, Prepared, Spec, Step,
};
use runtime::buffers::Piece;
use runtime::clock;
use store::schema::PluginSchema;

use super::ask::{Doing, Told};

/// The plugin.
pub(crate) static WITNESS: Spec = Spec {
    schema: PluginSchema { name: "witness", priority: 1_000, ..PluginSchema::EMPTY },
    phases: &[Phase::Access, Phase::HeaderFilter, Phase::BodyFilter, Phase::Log],
    entities: &[],
    endpoints: &[],
    prepare,
};

fn prepare(_: &Config<'_>) -> Result<Prepared, Fault> {
    Ok(Prepared::new(|| Box::new(Witness)))
}

/// One report.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) n: u32,
    pub(crate) id: String,
    /// What is wrong with it.
    pub(crate) faults: Vec<String>,
}

thread_local! {
    static REPORTS: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
}

/// Takes all reports of this world.
pub(crate) fn take_reports() -> Vec<Report> {
    REPORTS.take()
}

/// How many reports there are of a request.
pub(crate) fn reports_of(n: u32) -> usize {
    REPORTS.with_borrow(|reports| reports.iter().filter(|report| report.n == n).count())
}

struct Witness;

/// Bodies that the plugin wants to see or keep.
const BODY_BYTES_MAX: usize = 2_000;
const CAPTURE_BYTES_MAX: usize = 20_000;

fn told(exchange: &Exchange) -> Option<Told> {
    Told::of(std::str::from_utf8(exchange.request.target()).ok()?)
}

fn answer(told: &Told) -> Outcome {
    let answer = Answer::exact(200, Some("text/plain".into()), told.answer());
    Outcome::Answer(Box::new(answer.with("X-N", told.n.to_string())))
}

impl Plugin for Witness {
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Step<'a> {
        let Some(told) = told(exchange) else { return Step::NEXT };
        let first = exchange.request_capture.bytes_max.is_none();
        if first {
            exchange.capture_request(CAPTURE_BYTES_MAX);
            exchange.response_capture.bytes_max = Some(CAPTURE_BYTES_MAX);
        }
        let answers = exchange.request.target().starts_with(b"/answered");
        let unread = exchange.request_body_state == BodyState::Unread;
        match told.n % 5 {
            1 if first && unread && exchange.scope.service.is_some() => {
                Step::Body { bytes_max: BODY_BYTES_MAX }
            }
            2 | 3 => Step::Wait(Box::pin(async move {
                clock::sleep_ms(u64::from(told.n % 7) * 5).await;
                if answers { answer(&told) } else { Outcome::Next }
            })),
            _ if answers => Step::Done(answer(&told)),
            _ => Step::NEXT,
        }
    }

    fn header_filter(&self, exchange: &mut Exchange) {
        exchange.response.fields.set("X-Witness", "1");
    }

    fn body_filter(&self, _: &mut Exchange, _: &mut Piece, _: bool) {}

    fn log(&self, exchange: &mut Exchange) {
        let Some(told) = told(exchange) else { return };
        let mut faults = Vec::new();
        let kept: Vec<u8> =
            exchange.request_capture.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        if exchange.request_capture.left_out.is_none() && !told.body().starts_with(&kept) {
            faults.push(format!("the report of {} has another request's body", told.n));
        }
        let own = exchange.response.fields.get("x-n") == Some(told.n.to_string().as_bytes());
        let answers = exchange.request.target().starts_with(b"/answered");
        let whole = own && !answers && told.doing != Doing::Early;
        if whole && exchange.request_capture.left_out.is_none() && told.body() != kept {
            faults.push(format!("the report of {} has a part of its request's body", told.n));
        }
        let kept: Vec<u8> =
            exchange.response_capture.pieces.iter().flat_map(|piece| piece.to_vec()).collect();
        if own && exchange.response_capture.left_out.is_none() && !told.answer().starts_with(&kept)
        {
            faults.push(format!("the report of {} has another response's body", told.n));
        }
        log::debug!("at {} us reported {} {}", clock::now_us(), told.n, exchange.response.status);
        let report = Report { n: told.n, id: exchange.id.as_str().to_owned(), faults };
        REPORTS.with_borrow_mut(|reports| reports.push(report));
    }
}
