// Posts the mailed code. Opening the page uses nothing up: link scanners open it too.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service } from "/session.js";

const signIn = service(identityV1.SignInService);

onSubmit(byId("confirm"), async () => {
  await signIn.confirmRegistration({ token: new URLSearchParams(location.search).get("token") ?? "" });
  byId("confirm").hidden = true;
  byId("done").hidden = false;
});
