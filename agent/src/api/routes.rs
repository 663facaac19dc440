//! One function a question, and one for all that ask for a change.

use std::sync::Arc;

use anyhow::anyhow;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::peer::Peer;
use super::types::{GrantAct, Refusal, path};
use crate::datapath::Datapath;
use crate::policy::TOTAL_BYTES;
use crate::runtime::{Author, Engine, Refused, Shared, lock};
use crate::sink::json;
use crate::telemetry::{Clock, EventId, EventKind, Filter, Record, Telemetry};

/// What every route shares.
#[derive(Clone)]
struct Context {
    engine: Shared,
    telemetry: Arc<Telemetry>,
    stopped: watch::Receiver<bool>,
}

/// The whole API.
pub(super) fn all(engine: Shared, telemetry: Arc<Telemetry>, stopped: watch::Receiver<bool>) -> Router {
    Router::new()
        .route(path::STATUS, get(status))
        .route(path::APPLY, change(Engine::apply))
        .route(path::ROLLBACK, change(Engine::rollback))
        .route(path::CANDIDATE, get(candidate))
        .route(path::CANDIDATE_DROP, post(drop_candidate))
        .route(path::PROMOTE, change(Engine::promote))
        .route(path::CONFIRM, post(confirm))
        .route(path::RESUME, post(resume))
        .route(path::QUARANTINE, get(quarantined).merge(change(Engine::quarantine)))
        .route(path::RELEASE, change(Engine::release))
        .route(path::GRANTS, get(granted).merge(change(Engine::grant)))
        .route(&format!("{}/{{name}}/{{act}}", path::GRANTS), post(act_on_grant))
        .route(path::ATTRIBUTES, change(Engine::say))
        .route(path::REVISIONS, get(revisions))
        .route(&format!("{}/{{number}}", path::REVISIONS), get(revision))
        .route(path::OBJECTS, get(objects))
        .route(&format!("{}/{{name}}", path::DEVICES), get(device))
        .route(path::ACCEPTED, get(accepted))
        .route(path::DROPS, get(drops))
        .route(&format!("{}/{{id}}", path::DROPS), get(drop_by_id))
        .route(path::FLOWS, get(flows))
        .route(path::FOLLOW, get(follow))
        .fallback(async || Failure(StatusCode::NOT_FOUND, "there is no such path in this API".to_owned()))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(admit))
        .layer(middleware::map_response(in_json))
        .with_state(Context { engine, telemetry, stopped })
}

/// Policies and what JSON adds to them.
const BODY_BYTES: usize = 2 * TOTAL_BYTES;
/// Longest refusal of the framework's own that is passed on.
const REFUSAL_BYTES: usize = 16 << 10;
/// Remembered drops in one listing if the client names no limit.
const LISTED: usize = 1_000;

/// An answer that is no answer.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(Refusal { error: self.1, ..Refusal::default() })).into_response()
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}"))
    }
}

/// Only root and the agent's own user get further; the socket's mode says the same.
async fn admit(ConnectInfo(peer): ConnectInfo<Peer>, request: Request, next: Next) -> Response {
    if !peer.may_ask(nix::unistd::geteuid().as_raw()) {
        return Failure(StatusCode::FORBIDDEN, "only root may ask this agent".to_owned()).into_response();
    }
    // Said beforehand, it need not be read first.
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_BYTES as u64) {
        let limit = format!("a request takes at most {} MiB", BODY_BYTES >> 20);
        return Failure(StatusCode::PAYLOAD_TOO_LARGE, limit).into_response();
    }
    next.run(request).await
}

/// Makes the framework's own refusals, which are plain text, look like ours.
async fn in_json(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || kind.is_some_and(|kind| kind == "application/json") {
        return response;
    }
    let text = to_bytes(response.into_body(), REFUSAL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    Failure(status, if text.is_empty() { status.to_string() } else { text.into_owned() }).into_response()
}

async fn status(State(context): State<Context>) -> Result<Response, Failure> {
    ask(&context, |engine| Json(engine.status()).into_response()).await
}

async fn objects(State(context): State<Context>) -> Result<Response, Failure> {
    ask(&context, |engine| Json(engine.objects()).into_response()).await
}

async fn device(State(context): State<Context>, Path(name): Path<String>) -> Result<Response, Failure> {
    let missing = format!("there is no device {name:?} in the policy in force (see `bulkhead get devices`)");
    let found = ask(&context, move |engine| engine.device(&name)).await?;
    found.map(|report| Json(report).into_response()).ok_or(Failure(StatusCode::NOT_FOUND, missing))
}

async fn accepted(State(context): State<Context>) -> Result<Response, Failure> {
    let found = ask(&context, |engine| engine.accepted()).await?;
    let missing = || {
        Failure(StatusCode::NOT_FOUND, "no policy was accepted yet: run `bulkhead apply -f DIR`".to_owned())
    };
    found.map(|accepted| Json(accepted).into_response()).ok_or_else(missing)
}

async fn candidate(State(context): State<Context>) -> Result<Response, Failure> {
    ask(&context, |engine| Json(engine.candidate()).into_response()).await
}

async fn drop_candidate(State(context): State<Context>) -> Result<Response, Failure> {
    changed(ask(&context, Engine::drop_candidate).await?)
}

/// Where somebody asks for a change.
fn change<Q, A>(act: fn(&mut Engine, &Q, Author) -> Result<A, Refused>) -> MethodRouter<Context>
where
    Q: DeserializeOwned + Send + 'static,
    A: Serialize + Send + 'static,
{
    post(
        async move |State(context): State<Context>,
                    ConnectInfo(peer): ConnectInfo<Peer>,
                    Json(request): Json<Q>| {
            let author = peer.0.unwrap_or_else(Author::default);
            changed(ask(&context, move |engine| act(engine, &request, author)).await?)
        },
    )
}

/// The answer to whoever wanted a change.
fn changed<T: Serialize>(answer: Result<T, Refused>) -> Result<Response, Failure> {
    match answer {
        Ok(reply) => Ok(Json(reply).into_response()),
        Err(Refused::Policy(refusal)) => {
            Ok((StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response())
        }
        Err(Refused::Terms(refusal)) => Ok((StatusCode::CONFLICT, Json(refusal)).into_response()),
        Err(Refused::Host(error)) => Err(error.into()),
    }
}

async fn quarantined(State(context): State<Context>) -> Result<Response, Failure> {
    ask(&context, |engine| Json(engine.quarantined()).into_response()).await
}

async fn granted(State(context): State<Context>) -> Result<Response, Failure> {
    ask(&context, |engine| Json(engine.granted()).into_response()).await
}

/// What may be done with a grant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum OnGrant {
    Approve,
    Extend,
    Revoke,
}

async fn act_on_grant(
    State(context): State<Context>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path((name, what)): Path<(String, OnGrant)>,
    Json(act): Json<GrantAct>,
) -> Result<Response, Failure> {
    let author = peer.0.unwrap_or_else(Author::default);
    let acted = ask(&context, move |engine| match what {
        OnGrant::Approve => engine.approve_grant(&name, &act, author),
        OnGrant::Extend => engine.extend_grant(&name, &act, author),
        OnGrant::Revoke => engine.revoke_grant(&name, &act, author),
    });
    changed(acted.await?)
}

async fn confirm(State(context): State<Context>) -> Result<Response, Failure> {
    let done = ask(&context, |engine| engine.confirm()).await??;
    Ok(Json(done).into_response())
}

async fn resume(State(context): State<Context>) -> Result<Response, Failure> {
    let done = ask(&context, |engine| engine.resume()).await??;
    Ok(Json(done).into_response())
}

async fn revisions(State(context): State<Context>) -> Result<Response, Failure> {
    let found = ask(&context, |engine| engine.revisions()).await??;
    Ok(Json(found).into_response())
}

async fn revision(State(context): State<Context>, Path(number): Path<u64>) -> Result<Response, Failure> {
    let found = ask(&context, move |engine| engine.revision(number)).await?;
    found
        .map(|detail| Json(detail).into_response())
        .map_err(|error| Failure(StatusCode::NOT_FOUND, format!("{error:#}")))
}

/// How much of a listing, beside the filter.
#[derive(Debug, Deserialize)]
struct Limit {
    limit: Option<usize>,
}

async fn drops(
    State(context): State<Context>,
    Query(filter): Query<Filter>,
    Query(limit): Query<Limit>,
) -> Result<Response, Failure> {
    let filter = filter.asked_at(Timestamp::now());
    Ok(lines(&context.telemetry.drops(&filter, limit.limit.unwrap_or(LISTED))))
}

async fn drop_by_id(State(context): State<Context>, Path(id): Path<String>) -> Result<Response, Failure> {
    let number: EventId = id
        .trim_start_matches('#')
        .parse()
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("{error}")))?;
    let missing = || {
        Failure(
            StatusCode::NOT_FOUND,
            format!("drop #{id} is not remembered: the newest drops since the agent started are"),
        )
    };
    let found = context.telemetry.find(number).ok_or_else(missing)?;
    Ok(Json(found.record).into_response())
}

async fn flows(State(context): State<Context>, Query(filter): Query<Filter>) -> Result<Response, Failure> {
    let flows = ask(&context, |engine| engine.flow_table()).await?;
    let filter = filter.asked_at(Timestamp::now());
    Ok(lines(&context.telemetry.flows(&flows, Clock::read(Datapath::now_ns()), &filter)))
}

/// Which half of the stream.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Events {
    Drops,
    Flows,
}

#[derive(Debug, Deserialize)]
struct Which {
    events: Events,
}

impl Events {
    fn holds(self, record: &Record) -> bool {
        match record.event {
            EventKind::Gap => true,
            EventKind::Drop | EventKind::WouldDrop | EventKind::Witness => self == Self::Drops,
            EventKind::FlowOpen | EventKind::FlowEnd | EventKind::Flow => self == Self::Flows,
        }
    }
}

async fn follow(
    State(context): State<Context>,
    Query(which): Query<Which>,
    Query(filter): Query<Filter>,
) -> Response {
    let mut stopped = context.stopped.clone();
    let records = context.telemetry.follow(filter.asked_at(Timestamp::now())).into_stream();
    let wanted = records.filter(move |record| std::future::ready(which.events.holds(record)));
    let ended = async move {
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    let bytes = wanted.take_until(ended).map(|record| json::line(&record));
    stream(Body::from_stream(bytes))
}

fn lines(records: &[Record]) -> Response {
    let lines: Vec<u8> = records.iter().filter_map(|record| json::line(record).ok()).flatten().collect();
    stream(Body::from(lines))
}

fn stream(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

/// Asks the engine on a thread that may block.
async fn ask<T: Send + 'static>(
    context: &Context,
    question: impl FnOnce(&mut Engine) -> T + Send + 'static,
) -> Result<T, Failure> {
    let engine = Arc::clone(&context.engine);
    let answer = tokio::task::spawn_blocking(move || question(&mut lock(&engine))).await;
    answer.map_err(|error| Failure::from(anyhow!("the agent could not answer: {error}")))
}
