// Address and password, then the second factor of an account that has one.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service, token } from "/session.js";

const signIn = service(identityV1.SignInService);
let ticket = "";

function enter(tokens) {
  token.set(tokens.accessToken);
  location.assign("/account");
}

onSubmit(byId("first"), async ({ email, password }) => {
  token.drop();
  const { outcome } = await signIn.signIn({ email, password });
  if (outcome.case === "tokens") return enter(outcome.value);
  ticket = outcome.value.ticket;
  byId("first").hidden = true;
  byId("second").hidden = false;
  byId("second").elements.code.focus();
});

onSubmit(byId("second"), async ({ code }) => {
  const kind = /^\d{6}$/.test(code.trim()) ? "totpCode" : "recoveryCode";
  const { tokens } = await signIn.completeSignIn({ ticket, proof: { case: kind, value: code.trim() } });
  enter(tokens);
});
