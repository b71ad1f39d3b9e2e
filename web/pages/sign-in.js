// Address and password, a passkey, or an outside provider; then the second factor of an account that has one.
import { identityV1 } from "/weft.js";
import { enter, flow, ticket as waiting, wanted } from "/arrival.js";
import { byId, explain, onSubmit, service, token } from "/session.js";

const signIn = service(identityV1.SignInService);
const passkeys = service(identityV1.PasskeyService);
const providers = service(identityV1.ProviderService);
const first = byId("first");
let ticket = waiting.take();

first.elements.email.value = new URLSearchParams(location.search).get("email") ?? "";
if (ticket) askForSecond();

function askForSecond() {
  first.hidden = true;
  byId("others").hidden = true;
  byId("second").hidden = false;
  byId("second").elements.code.focus();
}

onSubmit(first, async ({ email, password }) => {
  token.drop();
  const { outcome } = await signIn.signIn({ email, password });
  if (outcome.case === "tokens") return enter(outcome.value, wanted());
  ticket = outcome.value.ticket;
  askForSecond();
});

onSubmit(byId("second"), async ({ code }) => {
  const kind = /^\d{6}$/.test(code.trim()) ? "totpCode" : "recoveryCode";
  const { tokens } = await signIn.completeSignIn({ ticket, proof: { case: kind, value: code.trim() } });
  enter(tokens, wanted());
});

async function byPasskey() {
  token.drop();
  const { challengeId, options } = await passkeys.startPasskeySignIn({ ticket });
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const credential = (await navigator.credentials.get({ publicKey })).toJSON();
  const { tokens } = await passkeys.completePasskeySignIn({ challengeId, credential, ticket });
  enter(tokens, wanted());
}

const complain = (error) => {
  byId("problem").textContent = explain(error);
};

if (window.PublicKeyCredential?.parseRequestOptionsFromJSON) {
  for (const button of document.querySelectorAll(".passkey")) {
    button.hidden = false;
    button.addEventListener("click", () => byPasskey().catch(complain));
  }
}

async function go(providerId) {
  const { redirectUri, binding } = await providers.startProviderSignIn({ providerId });
  flow.keep(binding, wanted());
  location.assign(redirectUri);
}

async function offer() {
  const { providers: known } = await providers.listSignInProviders({});
  for (const { providerId, name } of known) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = `Sign in with ${name}`;
    button.addEventListener("click", () => go(providerId).catch(complain));
    byId("others").append(button);
  }
}

offer().catch(complain);
