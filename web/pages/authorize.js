// The authorization page of OAuth: signs in, asks for consent, sends back. The query goes to the server as
// it came; nothing of it is decided here.
import { identityV1 } from "/weft.js";
import { byId, explain, onSubmit, service } from "/session.js";
import { scopeText } from "/scopes.js";

const oauth = service(identityV1.OAuthService);
const { ConsentDecision } = identityV1;

async function ask(decision) {
  const { next } = await oauth.authorize({ query: location.search.slice(1), decision });
  if (next.case === "redirectUri") {
    location.replace(next.value);
  } else if (next.case === "signIn") {
    const query = new URLSearchParams({ next: location.pathname + location.search });
    if (next.value.loginHint) query.set("email", next.value.loginHint);
    location.replace(`/sign-in?${query}`);
  } else {
    show(next.value);
  }
}

function show(wanted) {
  byId("name").textContent = wanted.clientName;
  byId("host").textContent = wanted.redirectHost;
  byId("scopes").replaceChildren(...wanted.scopes.map(scopeText));
  byId("consent").hidden = false;
}

onSubmit(byId("consent"), () => ask(ConsentDecision.GRANT));
byId("deny").addEventListener("click", () => ask(ConsentDecision.DENY).catch(complain));

const complain = (error) => {
  byId("problem").textContent = explain(error);
};

ask(ConsentDecision.UNSPECIFIED).catch(complain);
