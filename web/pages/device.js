// Lets a device in by the code that it shows (RFC 8628). A code in the link is filled in, never sent alone.
import { identityV1 } from "/weft.js";
import { byId, explain, onSubmit, service, token } from "/session.js";
import { scopeText } from "/scopes.js";

const oauth = service(identityV1.OAuthService);
const { ConsentDecision } = identityV1;
let userCode = new URLSearchParams(location.search).get("user_code") ?? "";

if (!token.get()) {
  const next = location.pathname + location.search;
  location.replace(`/sign-in?${new URLSearchParams({ next })}`);
}
byId("find").elements.userCode.value = userCode;

onSubmit(byId("find"), async (fields) => {
  userCode = fields.userCode;
  const device = await oauth.getDevice({ userCode });
  byId("name").textContent = device.clientName;
  byId("scopes").replaceChildren(...device.scopes.map(scopeText));
  byId("find").hidden = true;
  byId("consent").hidden = false;
});

async function decide(decision) {
  await oauth.decideDevice({ userCode, decision });
  byId("consent").hidden = true;
  byId("done").hidden = false;
}

onSubmit(byId("consent"), () => decide(ConsentDecision.GRANT));
byId("deny").addEventListener("click", () => {
  decide(ConsentDecision.DENY).catch((error) => {
    byId("consent").querySelector("[role=alert]").textContent = explain(error);
  });
});
