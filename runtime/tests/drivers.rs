//! What every driver with a kernel must keep: no descriptor is lost, whoever is closed wakes up,
//! and a waiting connection costs little.

#![allow(clippy::expect_used, clippy::panic)] // a test may

use runtime::buffers::{POOL_PAGES_MAX, Page, Pages, Piece};
use runtime::clock::{self, Deadline};
use runtime::io::{self, ConnectOptions, IoChoice, Listener, Reader, Writer};
use runtime::tls::{self, Acceptor, AcceptorPlan, Connector, ConnectorPlan, Identity, Names};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::Write as _;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// One test at a time: they count the descriptors and the memory of the process.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the same body on each driver, each within a minute.
fn on_each<F: Future<Output = ()>>(body: impl Fn() -> F) {
    let _alone = alone();
    for &choice in IoChoice::EACH {
        // Not epoll a second time where io_uring is refused.
        let choice = if choice == IoChoice::Auto { IoChoice::IoUring } else { choice };
        let done = io::block_on_core(choice, async {
            let done = clock::within(60_000, body()).await;
            done.unwrap_or_else(|| panic!("it hangs on {choice:?}"));
        });
        match (choice, done) {
            (_, Ok(())) => {}
            (IoChoice::IoUring | IoChoice::Glommio, Err(error)) => {
                // Not eprintln: the test harness would hide it.
                let _ = writeln!(std::io::stderr(), "\nNOT TESTED: {error}");
            }
            (_, Err(error)) => panic!("{error}"),
        }
    }
}

fn listener() -> Listener {
    let first = 26_000 + (std::process::id() % 4_000) as u16;
    let mut ports = first..first + 2_000;
    let free = ports.find_map(|port| io::listen(([127, 0, 0, 1], port).into()).ok());
    free.expect("a free port")
}

/// Both ends of a connection.
async fn pair(listener: &mut Listener) -> [(Reader, Writer); 2] {
    let options = ConnectOptions::default();
    let client = io::connect(listener.local_addr(), &options).await.expect("a connection");
    let (reader, writer, _) = listener.accept().await.expect("its other end");
    [client, (reader, writer)]
}

fn pages(bytes: Vec<u8>) -> Pages {
    [Piece::from_vec(bytes)].into_iter().collect()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc").count()
}

#[test]
fn abandoned_waits_lose_no_descriptor() {
    on_each(|| async {
        let mut listener = listener();
        drop(pair(&mut listener).await);
        clock::sleep_ms(50).await;
        let before = descriptors();
        for _ in 0..20 {
            assert!(clock::within(0, listener.accept()).await.is_none(), "nobody came");
            // Nobody answers at an address of TEST-NET-1; where a network refuses it at once, the
            // attempt ends by itself.
            let nobody = "192.0.2.1:9".parse().expect("an address");
            let options = ConnectOptions::default();
            let abandoned = clock::within(10, io::connect(nobody, &options)).await;
            assert!(!matches!(abandoned, Some(Ok(_))));
            let [(mut reader, writer), other] = pair(&mut listener).await;
            assert!(clock::within(0, reader.readable()).await.is_none(), "nothing came");
            drop((reader, writer, other));
        }
        clock::sleep_ms(50).await;
        assert!(descriptors() <= before, "{} became {}", before, descriptors());
    });
}

#[test]
fn an_abandoned_wait_for_readiness_changes_nothing() {
    on_each(|| async {
        let mut listener = listener();
        let [(mut reader, _writer), (_reader, mut writer)] = pair(&mut listener).await;
        for n in 0..50 {
            assert!(clock::within(0, reader.readable()).await.is_none());
            writer.write(pages(vec![n; 100])).await.expect("a write");
            reader.readable().await.expect("readiness");
            let (count, page) = reader.read(Page::take()).await;
            assert_eq!((count.expect("a read"), page.bytes()), (100, [n; 100].as_slice()));
        }
    });
}

#[test]
fn a_missed_deadline_ends_what_is_pending() {
    on_each(|| async {
        let mut listener = listener();
        let [(mut reader, mut writer), _silent] = pair(&mut listener).await;
        let deadline = Deadline::new(reader.closer());
        deadline.arm(30);
        let (count, _) = reader.read(Page::take()).await;
        assert!(matches!(count, Ok(0) | Err(_)) && deadline.missed());
        assert!(writer.write(pages(vec![1])).await.is_err(), "it is closed both ways");

        // A peer that never reads: the write waits until it is closed.
        let [(reader, mut writer), _deaf] = pair(&mut listener).await;
        let deadline = Deadline::new(reader.closer());
        deadline.arm(50);
        assert!(writer.write(pages(vec![7; 64 << 20])).await.is_err() && deadline.missed());
    });
}

#[test]
fn the_end_is_seen_also_right_behind_the_data() {
    on_each(|| async {
        let mut listener = listener();
        for n in 1..200 {
            let [(mut reader, _writer), (_reader, mut writer)] = pair(&mut listener).await;
            writer.write(pages(vec![7; n])).await.expect("a write");
            if n % 2 == 0 {
                writer.shutdown().await.expect("an end");
            } else {
                drop((writer, _reader));
            }
            let mut got = 0;
            loop {
                let (count, _) = reader.read(Page::take()).await;
                match count.expect("a read") {
                    0 => break,
                    count => got += count,
                }
            }
            assert_eq!(got, n);
        }
    });
}

#[test]
fn a_page_is_filled_over_several_reads_and_a_full_one_is_refused() {
    on_each(|| async {
        let mut listener = listener();
        let [(mut reader, _writer), (_reader, mut writer)] = pair(&mut listener).await;
        let sent: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
        writer.write(pages(sent.clone())).await.expect("a write");
        let (mut page, mut got) = (Page::take(), Vec::new());
        while got.len() + page.len() < sent.len() {
            if page.spare_len() == 0 {
                let (refused, full) = reader.read(page).await;
                assert_eq!(refused.expect_err("no room").kind(), io::ErrorKind::InvalidInput);
                got.extend_from_slice(full.bytes());
                page = Page::take();
            }
            let (count, more) = reader.read(page).await;
            assert!(count.expect("a read") > 0);
            page = more;
        }
        got.extend_from_slice(page.bytes());
        assert_eq!(got, sent);
        assert!(reader.is_quiet());
    });
}

#[test]
fn unix_sockets_and_adopted_ones_work_too() {
    on_each(|| async {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("socket");
        let socket = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        let (mut reader, mut writer) = io::connect_unix(&path).await.expect("a connection");
        let (stream, _) = socket.accept().expect("its other end");
        let (mut theirs, mut answer) = io::adopt(stream.into()).expect("the core takes it");
        writer.write(pages(b"there".to_vec())).await.expect("a write");
        let (_, page) = theirs.read(Page::take()).await;
        answer
            .write([page.freeze(), Piece::from_static(b" and back")].into_iter().collect())
            .await
            .expect("a write");
        let (_, page) = reader.read(Page::take()).await;
        assert_eq!(page.bytes(), b"there and back");
        let absent = io::connect_unix(&folder.path().join("absent")).await;
        assert_eq!(absent.err().expect("nobody").kind(), io::ErrorKind::NotFound);
        let refused = io::connect(([127, 0, 0, 1], 1).into(), &ConnectOptions::default()).await;
        assert_eq!(refused.err().expect("nobody").kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn tasks_take_turns_when_they_ask_for_it() {
    on_each(|| async {
        let moves = Rc::new(Cell::new(0_u32));
        let ends = Rc::new(Cell::new(0_u32));
        for _ in 0..3 {
            let (moves, ends) = (Rc::clone(&moves), Rc::clone(&ends));
            io::spawn(async move {
                for _ in 0..1_000 {
                    moves.set(moves.get() + 1);
                    io::yield_now().await;
                }
                ends.set(ends.get() + 1);
            });
        }
        while ends.get() == 0 {
            io::yield_now().await;
        }
        assert!(moves.get() > 2_900, "one was far ahead: {} moves", moves.get());
    });
}

#[test]
fn a_send_is_not_held_up_by_tasks_that_never_rest() {
    on_each(|| async {
        let [(mut reader, _back), (_forth, mut writer)] = pair(&mut listener()).await;
        let over = Rc::new(Cell::new(false));
        for _ in 0..3 {
            let over = Rc::clone(&over);
            io::spawn(async move {
                while !over.get() {
                    io::yield_now().await;
                }
            });
        }
        for byte in 0..=u8::MAX {
            writer.write(pages(vec![byte])).await.expect("a write");
            let (read, page) = reader.read(Page::take()).await;
            assert_eq!((read.expect("a read"), page.bytes()), (1, &[byte][..]));
        }
        over.set(true);
    });
}

#[test]
fn on_epoll_who_sends_lets_the_others_move_first() {
    let _alone = alone();
    let order = io::block_on_core(IoChoice::Epoll, async {
        let [(mut reader, _back), (_forth, mut writer)] = pair(&mut listener()).await;
        let order = Rc::new(RefCell::new(Vec::new()));
        let (sends, moves) = (Rc::clone(&order), Rc::clone(&order));
        io::spawn(async move {
            writer.write(pages(vec![1])).await.expect("a write");
            sends.borrow_mut().push("sent");
        });
        io::spawn(async move { moves.borrow_mut().push("moved") });
        let read = clock::within(10_000, reader.read(Page::take())).await.expect("it hangs");
        assert_eq!(read.0.expect("a read"), 1);
        order.take()
    });
    assert_eq!(order.expect("epoll"), ["moved", "sent"]);
}

#[test]
fn on_epoll_a_waker_works_from_another_thread() {
    let _alone = alone();
    let woken = io::block_on_core(IoChoice::Epoll, async {
        for _ in 0..200 {
            let done = Arc::new(Mutex::new((false, None::<Waker>)));
            let theirs = Arc::clone(&done);
            std::thread::spawn(move || {
                let waker = {
                    let mut done = theirs.lock().expect("the lock");
                    done.0 = true;
                    done.1.take()
                };
                waker.into_iter().for_each(Waker::wake);
            });
            let wait = std::future::poll_fn(|cx| {
                let mut done = done.lock().expect("the lock");
                done.1 = Some(cx.waker().clone());
                if done.0 { Poll::Ready(()) } else { Poll::Pending }
            });
            clock::within(10_000, wait).await.expect("the wake was lost");
        }
    });
    woken.expect("epoll");
}

/// Serves 64 KiB for each byte, and waits for the next one without a buffer.
async fn serve(mut reader: Reader, mut writer: Writer, waiting: Rc<Cell<usize>>) {
    let deadline = Deadline::new(reader.closer());
    loop {
        deadline.arm_idle(600_000);
        waiting.set(waiting.get() + 1);
        if reader.readable().await.is_err() {
            return;
        }
        let (count, page) = reader.read(Page::take()).await;
        if !matches!(count, Ok(1..)) {
            return;
        }
        drop(page);
        let answer = (0..4).map(|_| Piece::copy_of(&[7; 16 * 1024])).collect();
        if writer.write(answer).await.is_err() {
            return;
        }
    }
}

/// Fills the core's pool, which all connections share, so that no connection is charged for it.
fn fill_pool() {
    let touched = |_| {
        let mut page = Page::take();
        page.extend(&[7; 16 * 1024]);
        page
    };
    drop((0..POOL_PAGES_MAX).map(touched).collect::<Vec<Page>>());
}

/// Resident bytes of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.expect("a number") * 4_096
}

#[test]
fn a_waiting_connection_costs_little() {
    const CONNECTIONS: usize = 400;
    on_each(|| async {
        let mut listener = listener();
        let mut clients = Vec::with_capacity(CONNECTIONS);
        let waiting = Rc::new(Cell::new(0));
        let mut resident_before = 0;
        fill_pool();
        for n in 0..CONNECTIONS + 20 {
            if n == 20 {
                resident_before = resident();
            }
            let mut client = std::net::TcpStream::connect(listener.local_addr()).expect("a client");
            let (reader, writer, _) = listener.accept().await.expect("its other end");
            let task = serve(reader, writer, Rc::clone(&waiting));
            assert!(size_of_val(&task) < 1_024, "{} bytes", size_of_val(&task));
            io::spawn(task);
            client.write_all(b"?").expect("a question");
            let mut answer = vec![0; 64 * 1024];
            client.set_nonblocking(true).expect("a flag");
            let mut got = 0;
            while got < answer.len() {
                match std::io::Read::read(&mut client, &mut answer[got..]) {
                    Ok(count) => got += count,
                    Err(_) => io::yield_now().await,
                }
            }
            clients.push(client);
        }
        while waiting.get() < 2 * (CONNECTIONS + 20) {
            io::yield_now().await;
        }
        let each = resident().saturating_sub(resident_before) / CONNECTIONS;
        assert!(each <= 2_048, "{each} bytes for a waiting connection");
    });
}

/// Both roles of TLS, the connecting one believing everybody.
fn tls() -> (Acceptor, Connector) {
    let (chain, key) = tls::self_signed(&["waiting.test"]).expect("a certificate");
    let names = Names::new(vec![Identity::from_pem(&chain, &key).expect("an identity")]);
    let plan = AcceptorPlan { names, http2: false, versions: tls::Versions::default() };
    let connector = Connector::new(ConnectorPlan::default()).expect("a connector");
    (Acceptor::new(&plan).expect("an acceptor"), connector)
}

#[test]
fn a_waiting_tls_connection_costs_its_budget_at_most() {
    const CONNECTIONS: usize = 100;
    on_each(|| async {
        fill_pool();
        let (acceptor, connector) = tls();
        let mut listener = listener();
        let mut kept = Vec::new();
        let mut resident_before = 0;
        for n in 0..CONNECTIONS + 10 {
            if n == 10 {
                resident_before = resident();
            }
            let [(reader, writer), (their_reader, their_writer)] = pair(&mut listener).await;
            let acceptor = acceptor.clone();
            let accepted = Rc::new(Cell::new(None));
            let put = Rc::clone(&accepted);
            io::spawn(async move {
                let done = acceptor.accept(their_reader, their_writer, Piece::empty()).await;
                let (reader, mut writer, _) = done.expect("the server's handshake");
                writer.write(pages(vec![7; 64 * 1024])).await.expect("an answer");
                put.set(Some((reader, writer)));
            });
            let done = connector.connect(reader, writer, "waiting.test").await;
            let (mut reader, writer, _) = done.expect("the client's handshake");
            let mut got = 0;
            while got < 64 * 1024 {
                got += reader.read(Page::take()).await.0.expect("a read");
            }
            // Waiting is what makes them small.
            assert!(clock::within(0, reader.readable()).await.is_none(), "nothing is left");
            if let Some((mut reader, writer)) = accepted.take() {
                assert!(clock::within(0, reader.readable()).await.is_none(), "nothing came");
                accepted.set(Some((reader, writer)));
            }
            kept.push((reader, writer, accepted));
        }
        // Both ends are here.
        let each = resident().saturating_sub(resident_before) / CONNECTIONS / 2;
        assert!(each <= 24 * 1_024, "{each} bytes for one end of a waiting connection");
    });
}
