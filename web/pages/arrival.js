// What follows a sign-in, however it was done: the page that asked for it, or the second step before that.
import { token } from "/session.js";

const FLOW = "weft.flow";
const TICKET = "weft.ticket";

// Only pages of our own that ask for sign-ins; anything else would send people wherever a link says.
const KNOWN = /^\/(authorize|device)(\?|$)/;
export const wanted = () => {
  const next = new URLSearchParams(location.search).get("next") ?? "";
  return KNOWN.test(next) ? next : "/account";
};

export function enter(tokens, next) {
  token.set(tokens.accessToken);
  location.assign(next);
}

// A ticket waits for the sign-in page, which takes the second step.
export const ticket = {
  keep: (value) => sessionStorage.setItem(TICKET, value),
  take: () => {
    const value = sessionStorage.getItem(TICKET) ?? "";
    sessionStorage.removeItem(TICKET);
    return value;
  },
};

// What this tab keeps while a person is at an outside provider.
export const flow = {
  keep: (binding, next) => sessionStorage.setItem(FLOW, JSON.stringify({ binding, next })),
  take: () => {
    const kept = JSON.parse(sessionStorage.getItem(FLOW) ?? "{}");
    sessionStorage.removeItem(FLOW);
    return kept;
  },
};

export function arrive(outcome, next) {
  if (outcome.case === "tokens") return enter(outcome.value, next);
  if (outcome.case === "link") return location.assign("/account");
  ticket.keep(outcome.value.ticket);
  location.assign(`/sign-in?${new URLSearchParams({ next })}`);
}
