//! What a virtual machine holds does not depend on how many callers there were.

use crate::harness::{Envoy, HTTP, ask_as};

#[test]
fn twenty_times_as_many_callers_leave_no_more_memory() {
    let nowhere = ([127, 0, 0, 1], 9).into();
    // Few slots are scarce, so that every caller is looked at.
    let bootstrap = HTTP
        .before(nowhere)
        .limits(r#"{"inflight": 4}"#)
        .with(r#""key": "header:x-caller""#)
        .set(
            "route: {cluster: api, timeout: 15s}",
            "direct_response: {status: 200}",
        );
    let envoy = Envoy::start(&bootstrap, 1);
    let to = envoy.listener(HTTP.listener);
    // As often: what arrivals alone take is not for the number of callers.
    (0..20).for_each(|_| ask_as(to, 0..1_000));
    let few = envoy.linear_pages();
    ask_as(to, 0..20_000);
    envoy.until_rule("api", "tidegate_arrivals_total", 40_000.0);
    assert!(!few.is_empty(), "no virtual machine was found");
    assert_eq!(envoy.linear_pages(), few);
}
