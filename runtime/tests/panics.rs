//! A panic in one exchange costs that exchange: its neighbours on the same connection and core go
//! on. A process of its own: panics are counted for all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test may

use runtime::buffers::Piece;
use runtime::clock;
use runtime::http::h2::{self, Client, Limits, Stream};
use runtime::http::head::{Request, Response};
use runtime::io::{self, ConnectOptions, IoChoice, Listener};
use std::rc::Rc;

/// Answers after a while, or panics.
async fn answer(mut stream: Stream) {
    let mut response = Response::default();
    response.status = 200;
    clock::sleep_ms(50).await;
    assert!(stream.request.target() != b"/panic", "told to panic");
    if stream.request.target() == b"/late" {
        stream.reply.head(&response, false).unwrap();
        panic!("told to panic in the middle");
    }
    stream.reply.head(&response, true).unwrap();
}

async fn ask(mut client: Client, target: &'static str) -> Result<u16, h2::Fault> {
    let mut request = Request::default();
    request.set_method("GET");
    request.set_target(target.as_bytes());
    request.fields.add("Host", "a.test");
    client.ready().await?;
    let mut call = client.ask(&request, false, true)?;
    let mut response = Response::default();
    let mut body = call.response.head(&mut response).await?;
    while let Some(piece) = body.next().await {
        piece?;
    }
    Ok(response.status)
}

async fn neighbours() {
    let first = 26_000 + (std::process::id() % 3_000) as u16;
    let bound = (first..first + 3_000)
        .find_map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    let mut listener = Listener::new(bound.expect("a free port")).unwrap();
    let addr = listener.local_addr();
    io::spawn(async move {
        let (reader, writer, _) = listener.accept().await.unwrap();
        let limits = Limits::default();
        let (reader, writer) = (reader.into(), writer.into());
        h2::serve(reader, writer, Piece::empty(), &limits, || false, answer).await.unwrap();
    });
    let (reader, writer) = io::connect(addr, &ConnectOptions::default()).await.unwrap();
    let client = Client::new(reader.into(), writer.into(), &Limits::default()).await.unwrap();
    let answers = Rc::new(std::cell::RefCell::new(Vec::new()));
    for target in ["/a", "/panic", "/b", "/late", "/c"] {
        let (client, answers) = (client.clone(), Rc::clone(&answers));
        io::spawn(async move {
            let answer = ask(client, target).await;
            answers.borrow_mut().push((target, answer.ok()));
        });
    }
    while answers.borrow().len() < 5 {
        clock::sleep_ms(10).await;
    }
    let mut answers = answers.take();
    answers.sort_unstable();
    let expected = [
        ("/a", Some(200)),
        ("/b", Some(200)),
        ("/c", Some(200)),
        ("/late", None),
        ("/panic", None),
    ];
    assert_eq!(answers, expected);
    assert_eq!(ask(client.clone(), "/after").await, Ok(200), "the connection goes on");
    assert!(!client.is_ended());
}

#[test]
fn a_panic_costs_one_exchange_of_a_connection() {
    for (times, &choice) in IoChoice::EACH.iter().enumerate() {
        io::block_on_core(choice, async {
            clock::within(30_000, neighbours()).await.expect("it hangs");
        })
        .unwrap();
        assert_eq!(io::panics(), 2 * (times as u64 + 1));
    }
}
