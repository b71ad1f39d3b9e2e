// Asks for an account; the mailed link does the rest.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service } from "/session.js";

const signIn = service(identityV1.SignInService);

onSubmit(byId("register"), async ({ displayName, email, password }) => {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  await signIn.register({ email, password, profile: { displayName, locale: navigator.language, zone } });
  byId("register").hidden = true;
  byId("done").hidden = false;
});
