//! TCP and nothing else: the machine's limit for two processes on loopback.

use crate::system::{Dialler, Running, Stream, System};
use crate::workload;
use anyhow::{Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};

pub struct Tcp;

impl System for Tcp {
    fn label(&self) -> &'static str {
        "raw TCP"
    }

    fn has_network(&self) -> bool {
        false
    }

    fn network(&self) -> BoxFuture<'_, Result<Running>> {
        async { bail!("raw TCP needs no network") }.boxed()
    }

    fn listen<'a>(&'a self, _: Option<&'a str>) -> BoxFuture<'a, Result<Running>> {
        async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let contact = listener.local_addr()?.to_string();
            let accepting = tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(workload::serve(stream));
                }
            });
            Ok(Running { contact, alive: Box::new(accepting) })
        }
        .boxed()
    }

    fn dialler<'a>(&'a self, _: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Box<dyn Dialler>>> {
        async { Ok(Box::new(Plain) as Box<dyn Dialler>) }.boxed()
    }
}

struct Plain;

impl Dialler for Plain {
    fn open<'a>(&'a mut self, contact: &'a str) -> BoxFuture<'a, Result<Stream>> {
        async move {
            let stream = TcpStream::connect(contact).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Stream)
        }
        .boxed()
    }

    fn disconnect(&mut self) -> BoxFuture<'_, Result<()>> {
        // Its connection is its stream.
        futures::future::ready(Ok(())).boxed()
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}
