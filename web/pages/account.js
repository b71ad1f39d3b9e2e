// A person's own account: who, second factor, sessions, and what happens, as it happens.
import { identityV1, timestampDate } from "/weft.js";
import { byId, explain, onSubmit, service, token } from "/session.js";

const RETRY_MS = 2000; // Between a broken stream and the next one.
const ROWS_MAX = 50; // Rows of activity on the page; the newest stay.

const users = service(identityV1.UserService);
const factors = service(identityV1.SecondFactorService);
const sessions = service(identityV1.SessionService);
const activity = service(identityV1.ActivityService);
const signIn = service(identityV1.SignInService);

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const place = document.createElement("td");
    place.append(cell);
    line.append(place);
  }
  return line;
}

const when = (time) => (time ? timestampDate(time).toLocaleString() : "");
const named = (kind) => identityV1.ActivityKind[kind].replaceAll("_", " ").toLowerCase();

async function showFactors() {
  const { secondFactors, recoveryCodesLeft } = await factors.listSecondFactors({});
  const enrolled = secondFactors.length > 0;
  byId("factor").textContent = enrolled ? `On. ${recoveryCodesLeft} recovery codes left.` : "Off.";
  byId("enrol").hidden = enrolled;
}

async function showSessions(userId) {
  const listed = await sessions.listSessions({ userId });
  const rows = listed.sessions.map((session) => {
    const end = document.createElement("button");
    end.className = "quiet";
    end.textContent = "End";
    end.addEventListener("click", async () => {
      await sessions.revokeSession({ userId, sessionId: session.sessionId });
      await showSessions(userId);
    });
    return row([session.device?.name || "A device", when(session.lastUseTime ?? session.createTime), end]);
  });
  byId("sessions").replaceChildren(...rows);
}

async function follow(userId) {
  let afterSequence = 0n;
  while (token.get()) {
    try {
      for await (const { item } of activity.watchActivity({ userId, afterSequence })) {
        if (item.case !== "activity") continue;
        const entry = item.value;
        afterSequence = entry.sequence;
        byId("activity").prepend(row([when(entry.time), named(entry.kind), entry.address]));
        while (byId("activity").rows.length > ROWS_MAX) byId("activity").deleteRow(-1);
      }
    } catch (error) {
      byId("problem").textContent = explain(error);
    }
    await new Promise((resume) => setTimeout(resume, RETRY_MS));
    byId("problem").textContent = "";
  }
}

byId("enrol").addEventListener("click", async () => {
  try {
    const { qrSvg } = await factors.enrollTotp({});
    byId("qr").src = `data:image/svg+xml;utf8,${encodeURIComponent(qrSvg)}`;
    byId("totp").hidden = false;
    byId("enrol").hidden = true;
  } catch (error) {
    byId("problem").textContent = explain(error);
  }
});

onSubmit(byId("totp"), async ({ code }) => {
  const { recoveryCodes } = await factors.confirmTotp({ totpCode: code });
  byId("totp").hidden = true;
  byId("recovery").hidden = false;
  byId("codes").replaceChildren(...recoveryCodes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  await showFactors();
});

byId("sign-out").addEventListener("click", async () => {
  await signIn.signOut({}).catch(() => {});
  token.drop();
  location.assign("/sign-in");
});

async function start() {
  if (!token.get()) return location.assign("/sign-in");
  try {
    const { user } = await users.getMe({});
    byId("name").textContent = user.profile.displayName;
    byId("address").textContent = user.email;
    await Promise.all([showFactors(), showSessions(user.userId)]);
    await follow(user.userId);
  } catch (error) {
    byId("problem").textContent = explain(error);
  }
}

start();
