// Posts the code that was mailed to the new address.
import { identityV1 } from "/weft.js";
import { byId, onSubmit, service } from "/session.js";

const emails = service(identityV1.EmailService);

onSubmit(byId("confirm"), async () => {
  await emails.confirmEmailChange({ token: new URLSearchParams(location.search).get("token") ?? "" });
  byId("confirm").hidden = true;
  byId("done").hidden = false;
});
