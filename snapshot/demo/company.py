"""The made-up company around the people: departments, sites, and who leads whom."""
# ruff: noqa: RUF001 (Turkish letters)

from __future__ import annotations

from dataclasses import dataclass

_SPAN = 10  # people in a team
_MAX_HEADS = 20

TOP, HEAD, LEAD, MEMBER = range(4)


@dataclass(frozen=True, slots=True)
class Department:
    """A department: its name, the first three digits of its cost centers, and its job titles."""

    name: str
    code: int
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A place where people work.

    Telephone numbers begin with `dial`; postal codes are `postal` and three digits.
    """

    city: str
    country: str
    postal: str
    dial: str
    streets: tuple[str, ...]


BOARD = Department("Executive Office", 100, ())
DEPARTMENTS = (
    Department("Engineering", 210, ("Software Engineer", "Senior Software Engineer", "Architect", "Test Engineer")),
    Department("Production", 220, ("Production Technician", "Machine Operator", "Shift Supervisor")),
    Department("Sales", 310, ("Account Executive", "Sales Representative", "Pre-Sales Consultant")),
    Department("Customer Support", 320, ("Support Agent", "Support Engineer")),
    Department("Marketing", 330, ("Marketing Specialist", "Copywriter", "Designer")),
    Department("Finance", 410, ("Accountant", "Controller", "Treasury Analyst")),
    Department("Human Resources", 420, ("HR Business Partner", "Payroll Clerk", "Recruiter")),
    Department("Information Services", 430, ("System Administrator", "Database Administrator", "Network Engineer")),
    Department("Legal", 440, ("Counsel", "Paralegal")),
    Department("Purchasing", 450, ("Buyer", "Vendor Analyst")),
    Department("Quality Assurance", 510, ("Inspector", "Quality Engineer")),
    Department("Research & Development", 520, ("Researcher", "Research Engineer", "Lab Technician")),
    Department("Shipping and Receiving", 530, ("Warehouse Clerk", "Forklift Driver")),
    Department("Facilities", 540, ("Janitor", "Electrician", "Facilities Planner")),
    Department("Document Control", 550, ("Archivist", "Document Specialist")),
    Department("Tool Design", 560, ("Tool Designer", "Model Maker")),
    Department("Security", 610, ("Guard", "Security Analyst")),
    Department("Training", 620, ("Trainer", "Course Author")),
    Department("Health & Safety", 630, ("Safety Officer", "Occupational Nurse")),
    Department("Data & Analytics", 640, ("Data Analyst", "Data Engineer", "Statistician")),
)
SITES = (
    Site("Sydney", "AU", "2", "+61 2 5550", ("King's Cross Rd", "O'Connell St", "George St")),
    Site("Seattle", "US", "98", "+1 206 555", ("Pine St", "5th Ave N", "E Martin Luther King Jr Way")),
    Site("München", "DE", "80", "+49 89 555", ("Leopoldstraße", "Brienner Straße", "Am Tucherpark")),
    Site("Zürich", "CH", "8", "+41 44 555", ("Bahnhofstrasse", "Limmatquai")),
    Site("København", "DK", "2", "+45 33 55", ("Strøget", "Nørrebrogade")),
    Site("Łódź", "PL", "90-", "+48 42 555", ("ul. Piotrkowska", "al. Kościuszki")),
    Site("São Paulo", "BR", "01", "+55 11 5555", ("Av. Paulista", "Rua da Consolação")),
    Site("Málaga", "ES", "29", "+34 952 55", ("Calle Larios", "Plaza de la Constitución")),
    Site("Nice", "FR", "06", "+33 4 93 55", ("Promenade des Anglais", "Rue de l'Hôtel-des-Postes")),
    Site("Αθήνα", "GR", "10", "+30 210 555", ("Οδός Ερμού", "Λεωφόρος Συγγρού")),
    Site("İzmir", "TR", "35", "+90 232 555", ("Kıbrıs Şehitleri Cd.", "Gazi Blv.")),
    Site("Bengaluru", "IN", "560", "+91 80 5555", ("MG Road", "80 Feet Road")),
    Site("東京", "JP", "100-0", "+81 3 5555", ("丸の内", "神田神保町")),
    Site("서울", "KR", "04", "+82 2 555", ("세종대로", "테헤란로")),
    Site("Hà Nội", "VN", "100", "+84 24 3555", ("Phố Tràng Tiền", "Đường Láng")),
)


@dataclass(frozen=True, slots=True)
class Company:
    """Who leads whom, by arithmetic alone.

    People are numbered from 0: the top, then the heads, then the leads, then the rest.
    """

    people: int
    heads: int
    leads: int

    @classmethod
    def of(cls, people: int) -> Company:
        """Return the company of that many people: one top, up to 20 heads, about one lead to ten members."""
        heads = min(_MAX_HEADS, max(0, people - 1), 1 + people // 25)
        rest = max(0, people - 1 - heads)
        leads = min(rest, max(heads, -(-rest // (_SPAN + 1))))
        return cls(people, heads, leads)

    def rank(self, number: int) -> int:
        """Return TOP, HEAD, LEAD or MEMBER."""
        if number == 0:
            return TOP
        if number <= self.heads:
            return HEAD
        return LEAD if number <= self.heads + self.leads else MEMBER

    def boss(self, number: int) -> int | None:
        """Return the number of the person's manager; None for the top."""
        rank = self.rank(number)
        if rank == TOP:
            return None
        if rank == HEAD:
            return 0
        if rank == LEAD:
            return 1 + (number - 1 - self.heads) % self.heads
        return 1 + self.heads + (number - 1 - self.heads - self.leads) % self.leads

    def department(self, number: int) -> Department:
        """Return the department: that of the head above."""
        if number == 0:
            return BOARD
        while number > self.heads:
            number = self.boss(number) or 0
        return DEPARTMENTS[(number - 1) % len(DEPARTMENTS)]
