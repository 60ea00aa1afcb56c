//! A gRPC client of the control socket, for tests without `mcpctl`.

use std::io;
use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A gRPC connection to the socket. `window` is the number of bytes that the daemon may send before they are read.
pub async fn connect(socket: &Path, window: Option<u32>) -> Channel {
    let socket = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    let endpoint = Endpoint::from_static("http://mcpd")
        .connect_timeout(Duration::from_secs(10))
        .initial_stream_window_size(window)
        .initial_connection_window_size(window);
    endpoint.connect_with_connector(connector).await.expect("the daemon responds")
}
