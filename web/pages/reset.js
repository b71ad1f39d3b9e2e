// Asks for a reset code; with a code in the address, sets the new password.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service } from "/session.js";

const passwords = service(identityV1.PasswordService);
const token = new URLSearchParams(location.search).get("token");

byId("ask").hidden = token !== null;
byId("set").hidden = token === null;

onSubmit(byId("ask"), async ({ email }) => {
  await passwords.requestPasswordReset({ email });
  byId("ask").hidden = true;
  byId("asked").hidden = false;
});

onSubmit(byId("set"), async ({ password }) => {
  await passwords.resetPassword({ token, newPassword: password });
  byId("set").hidden = true;
  byId("done").hidden = false;
});
