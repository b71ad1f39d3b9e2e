// Asks for a reset code; with a code in the address, sets the new password.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service } from "/session.js";

const signIn = service(identityV1.SignInService);
const token = new URLSearchParams(location.search).get("token");

byId("ask").hidden = token !== null;
byId("set").hidden = token === null;

onSubmit(byId("ask"), async ({ email }) => {
  await signIn.requestPasswordReset({ email });
  byId("ask").hidden = true;
  byId("asked").hidden = false;
});

onSubmit(byId("set"), async ({ password }) => {
  await signIn.resetPassword({ token, newPassword: password });
  byId("set").hidden = true;
  byId("done").hidden = false;
});
